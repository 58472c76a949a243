"""The claim at the top: rates with intervals, the gain, what it cost."""

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farthing.report.gather import gather
from farthing.report.headline import difference, evaluations, parameters
from farthing.report.reading import RunFiles

Maker = Callable[..., Path]


def rated(rate: float, half: float | None = None) -> dict[str, Any]:
    edges = {"pass@1_interval": [rate - half, rate + half]} if half else {}
    return {"task": "countdown", "pass@1": rate, **edges}


def test_the_claim_is_the_summary(run_dir: Path) -> None:
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    claim = gather(run_dir)["headline"]
    for key, told in (("base", summary["evaluations"]["base"]), ("final", summary["evaluations"]["final"]),
                      ("control", summary["control"])):  # fmt: skip
        assert claim[key] == {**told, "model": key}
    assert claim["gain"]["value"] == summary["evaluations"]["final"]["pass@1"] - 0.065
    assert (claim["wall_s"], claim["money"]) == (summary["wall_s"], summary["cost"]["money"])
    assert (claim["currency"], claim["cores"], claim["task"]) == ("EUR", 2, "countdown")
    assert claim["sentence"] == "A model (qwen3), made from random weights, learning to reason on countdown."


def test_the_interval_of_a_gain_is_the_square_and_add_rule() -> None:
    before = {"pass@1": 0.10, "pass@1_interval": [0.06, 0.13]}
    after = {"pass@1": 0.50, "pass@1_interval": [0.46, 0.62]}
    gain = difference(before, after)
    assert gain["value"] == pytest.approx(0.40)
    assert gain["low"] == pytest.approx(0.40 - math.hypot(0.50 - 0.46, 0.13 - 0.10))
    assert gain["high"] == pytest.approx(0.40 + math.hypot(0.62 - 0.50, 0.10 - 0.06))
    assert difference(rated(0.1), rated(0.5, 0.04)) == {"value": 0.4, "low": None, "high": None}


def test_a_gain_that_chance_explains_has_zero_inside() -> None:
    gain = difference(rated(0.30, 0.05), rated(0.33, 0.05))
    assert gain["low"] < 0 < gain["high"]


@pytest.mark.parametrize(
    "control",
    [
        rated(0.2),
        {"evaluations": {"base": rated(0.1), "final": rated(0.2)}},
        {"evaluation": rated(0.2)},
    ],
)
def test_a_control_may_be_an_evaluation_or_a_summary(tmp_path: Path, control: dict[str, Any]) -> None:
    summary = {"evaluations": {"final": rated(0.5), "base": rated(0.1)}, "control": control}
    rows = evaluations(RunFiles(tmp_path, summary=summary))
    assert [(row["model"], row["pass@1"]) for row in rows] == [
        ("base", 0.1),
        ("control", 0.2),
        ("final", 0.5),
    ]


def test_evaluations_by_stage_and_taskset_become_rows(tmp_path: Path) -> None:
    tree = {
        "zero": {"countdown": rated(0.3), "words": rated(0.2) | {"task": "words"}},
        "base": {"countdown": rated(0.1)},
    }
    rows = evaluations(RunFiles(tmp_path, summary={"evaluations": tree}))
    assert [(row["model"], row["task"]) for row in rows] == [
        ("base", "countdown"), ("zero", "countdown"), ("zero", "words")
    ]  # fmt: skip


def test_while_it_runs_the_latest_evaluation_stands_in(make_run: Maker, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=45, pretrain_steps=2)
    (path / "summary.json").unlink()
    shutil.rmtree(path / "stages" / "final_eval")
    claim = gather(path)["headline"]
    assert (claim["final"]["model"], claim["final"]["so_far"]) == ("step 40", True)
    assert claim["base"]["pass@1"] == 0.065  # by the stage's own file, before there is a summary
    assert claim["gain"]["value"] == pytest.approx(claim["final"]["pass@1"] - 0.065)
    assert claim["wall_s"] > 0
    assert claim["money"] == pytest.approx(claim["wall_s"] / 3600 * 2 * 0.04)


def test_parameters_are_counted_from_the_weights_headers(tmp_path: Path) -> None:
    assert parameters(tmp_path) is None
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    assert parameters(tmp_path) == 6
    file.write_bytes(struct.pack("<Q", len(header)) + header[:-5])
    assert parameters(tmp_path) is None
