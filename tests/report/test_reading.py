"""A report reads what is there and says what it could not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farthing.errors import RunError
from farthing.report.clock import elapsed
from farthing.report.reading import number, read_run

Maker = Callable[..., Path]


def test_everything_written_is_read(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert len(run.metrics) == 200 + 240 + 2
    assert len(run.learning) == 200 + 240
    assert len(run.groups) == 2 * 41
    assert run.summary["evaluations"]["base"]["pass@1"] == 0.065
    assert run.stage_names() == ["tokenizer", "pretrain", "base_eval", "grpo", "final_eval"]
    assert run.notices == []


def test_an_empty_directory_is_an_empty_run(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert (run.metrics, run.groups, run.ledger, run.config, run.notices) == ([], [], [], {}, [])


def test_no_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory"):
        read_run(tmp_path / "nowhere")


def test_a_torn_last_line_costs_only_itself(make_run: Maker, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=3, pretrain_steps=2)
    with open(path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"stage": "grpo", "step": 4, "rew')
    run = read_run(path)
    assert len(run.learning) == 5
    assert run.notices == []


@pytest.mark.parametrize("name", ["config.json", "status.json", "summary.json"])
def test_a_damaged_document_is_named_and_costs_only_itself(
    make_run: Maker, tmp_path: Path, name: str
) -> None:
    path = make_run(tmp_path / "run", steps=3, pretrain_steps=2)
    (path / name).write_text('{"stages": [', encoding="utf-8")
    run = read_run(path)
    assert len(run.metrics) == 7
    assert len(run.notices) == 1
    assert run.notices[0].startswith(f"{name}: ")
    assert str(tmp_path) not in run.notices[0]


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl", "ledger.jsonl"])
def test_a_damaged_middle_is_named_with_its_line(make_run: Maker, tmp_path: Path, name: str) -> None:
    path = make_run(tmp_path / "run", steps=3, pretrain_steps=2)
    text = (path / name).read_text(encoding="utf-8")
    (path / name).write_text("nonsense\n" + text, encoding="utf-8")
    assert any(name in notice and "line 1" in notice for notice in read_run(path).notices)


def test_records_of_another_shape_are_counted_and_left_out(tmp_path: Path) -> None:
    lines = [
        {"stage": "grpo", "step": 1, "reward": 0.5},
        {"step": 2},
        {"stage": "grpo"},
        [1, 2],
        "text",
        None,
    ]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    run = read_run(tmp_path)
    assert len(run.metrics) == 1
    assert run.notices == ["metrics.jsonl: 5 records of an unknown shape left out"]


@pytest.mark.parametrize("line", ['{"started": "yesterday"}', '["x"]', "17", '{"attempt": 1, "stage": "a"}'])
def test_a_strange_ledger_stops_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "ledger.jsonl").write_text(line + "\n", encoding="utf-8")
    run = read_run(tmp_path)
    assert (run.ledger, run.attempts) == ([], [])


def test_a_run_that_nobody_holds_is_interrupted(make_run: Maker, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=3, pretrain_steps=2)
    (path / "status.json").write_text('{"state": "running", "stage": "grpo"}', encoding="utf-8")
    assert read_run(path).status["state"] == "interrupted"


def test_working_time_leaves_out_the_hours_between_attempts(tmp_path: Path) -> None:
    lines = [
        {"attempt": 1, "started": 1000.0, "cores": 2},
        {"attempt": 1, "stage": "grpo", "kind": "train", "step": 1, "start_s": 0.0, "wall_s": 60.0},
        {"attempt": 2, "started": 9000.0, "cores": 2},
        {"attempt": 2, "stage": "grpo", "kind": "train", "step": 2, "start_s": 0.0, "wall_s": 30.0},
    ]
    (tmp_path / "ledger.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    working = elapsed(read_run(tmp_path))
    assert [working(time) for time in (1000.0, 1060.0, 9000.0, 9030.0)] == [0.0, 60.0, 60.0, 90.0]


def test_working_time_without_a_ledger_begins_at_the_first_metric(tmp_path: Path) -> None:
    lines = [{"stage": "a", "step": n, "time": 500.0 + n} for n in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    working = elapsed(read_run(tmp_path))
    assert (working(501.0), working(502.0)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1), (0.5, 0.5), (True, None), ("1", None), (None, None), (float("nan"), None)]
)
def test_numbers_are_numbers(value: object, expected: float | None) -> None:
    assert number(value) == expected
