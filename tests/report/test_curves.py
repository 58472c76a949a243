"""What a chart shows is what was logged."""

import json
import random
from pathlib import Path
from typing import Any

from farthing.report.curves import PANELS, stage_charts, thin
from farthing.report.gather import gather
from farthing.report.reading import read_run


def logged(run_dir: Path, stage: str, key: str) -> list[list[float]]:
    """[step, value] straight from the file, by other means than the report's."""
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [[r["step"], r[key]] for r in records if r["stage"] == stage and key in r]


def by_key(stage: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: one for panel in stage["panels"] for one in panel["series"]}


def test_every_point_of_every_curve_is_the_metric(run_dir: Path) -> None:
    stages = {stage["name"]: stage for stage in gather(run_dir)["stages"]}
    assert set(stages) == {"pretrain", "grpo"}
    compared = 0
    for name, stage in stages.items():
        for key, one in by_key(stage).items():
            assert one["points"] == logged(run_dir, name, key)
            assert one["left_out"] == 0
            compared += 1
    assert compared > 25


def test_no_metric_is_hidden(run_dir: Path) -> None:
    stages = {stage["name"]: by_key(stage) for stage in gather(run_dir)["stages"]}
    for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        axes = {"stage", "step", "time", "num_tokens", "cost/wall_s", "eval/pass@1_low", "eval/pass@1_high"}
        if record["stage"] in stages:
            assert set(record) - axes <= set(stages[record["stage"]])
        else:
            assert record["stage"] in ("base_eval", "final_eval")


def test_the_band_is_the_interval(run_dir: Path) -> None:
    (stage,) = [stage for stage in gather(run_dir)["stages"] if stage["name"] == "grpo"]
    low, high = (logged(run_dir, "grpo", f"eval/pass@1_{end}") for end in ("low", "high"))
    expected = [[step, below, above] for (step, below), (_, above) in zip(low, high, strict=True)]
    assert by_key(stage)["eval/pass@1"]["band"] == expected
    assert len(expected) == 12


def test_one_chart_of_a_stage_is_large_and_a_policy_loss_never_is(run_dir: Path) -> None:
    for stage in gather(run_dir)["stages"]:
        large = [panel["id"] for panel in stage["panels"] if panel["large"]]
        assert large == {"pretrain": ["loss"], "grpo": ["pass"]}[stage["name"]]
        folded = {panel["id"] for panel in stage["panels"] if panel["more"]}
        assert ("loss" in folded) == (stage["name"] == "grpo")


def test_base_and_control_are_lines_of_the_accuracy_chart_only(run_dir: Path) -> None:
    for stage in gather(run_dir)["stages"]:
        for panel in stage["panels"]:
            labels = [line["label"] for line in panel["references"]]
            assert labels == (["base", "control"] if panel["id"] == "pass" else [])


def test_minutes_grow_and_end_with_the_run(run_dir: Path) -> None:
    pretrain, grpo = gather(run_dir)["stages"]
    minutes = pretrain["axis"]["minutes"] + grpo["axis"]["minutes"]
    assert minutes == sorted(minutes)
    assert abs(minutes[0] - (3.2 + 0.9) / 60) < 1e-3


def test_a_metric_nobody_planned_for_gets_a_chart_of_its_own(tmp_path: Path) -> None:
    records = [{"stage": "x", "step": n, "time": n, "experts/load": 0.5 * n} for n in range(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    (stage,) = stage_charts(read_run(tmp_path), [])
    (panel,) = stage["panels"]
    assert (panel["title"], panel["more"]) == ("experts/load", True)
    assert panel["series"][0]["points"] == [[0, 0.0], [1, 0.5], [2, 1.0]]


def test_records_of_one_step_become_one_and_null_stays_a_hole(tmp_path: Path) -> None:
    records = [
        {"stage": "grpo", "step": 1, "time": 1.0, "reward": 0.5},
        {"stage": "grpo", "step": 1, "time": 2.0, "eval/pass@1": 0.25},
        {"stage": "grpo", "step": 2, "time": 3.0, "reward": None, "nonfinite": ["reward"]},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    (stage,) = stage_charts(read_run(tmp_path), [])
    assert stage["axis"]["step"] == [1, 2]
    assert by_key(stage)["reward"]["points"] == [[1, 0.5], [2, None]]
    assert by_key(stage)["eval/pass@1"]["points"] == [[1, 0.25]]


def test_thinning_keeps_ends_extremes_and_holes_and_invents_nothing() -> None:
    rng = random.Random(3)
    points: list[list[float | None]] = [[step, rng.gauss(0, 1)] for step in range(10_000)]
    points[7000][1] = None
    kept = thin(points, 500)
    assert len(kept) <= 520
    assert all(point in points for point in kept)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert [7000, None] in kept
    values = [value for _, value in points if value is not None]
    shown = [value for _, value in kept if value is not None]
    assert (min(shown), max(shown)) == (min(values), max(values))
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})


def test_few_points_are_never_thinned() -> None:
    points: list[list[float | None]] = [[step, 1.0] for step in range(500)]
    assert thin(points, 500) is points


def test_panels_have_names_of_their_own() -> None:
    assert len({panel.id for panel in PANELS}) == len(PANELS)
    keys = [line.key for panel in PANELS for line in panel.lines]
    assert len(set(keys)) == len(keys)
