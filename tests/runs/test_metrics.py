"""metrics.jsonl and its sinks: nothing dropped silently, a broken view never ends a run."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from farthing.runs.metrics import MetricsLog, Sink, StageSink, make_record, read


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def begin(self, about: dict[str, Any]) -> None:
        self.seen.append(about)

    def write(self, record: dict[str, Any]) -> None:
        self.seen.append(record)

    def close(self) -> None:
        self.seen.append("closed")


class Broken:
    """Only the two methods every sink has, and both fail."""

    def write(self, record: dict[str, Any]) -> None:
        raise OSError("no route to host")

    def close(self) -> None:
        raise OSError("gone")


class Float16:
    """A number of another library: float() takes it."""

    def __float__(self) -> float:
        return 0.25


def test_a_record_has_stage_step_time_and_plain_numbers(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", extra=lambda: {"cost/money": 0.5})
    before = time.time()
    log.log("grpo", 3, {"reward": 0.5, "num_tokens": 2**60, "lr": Float16()})  # type: ignore[dict-item]
    log.close()
    (record,) = read(tmp_path / "metrics.jsonl")
    assert before - 0.001 <= record.pop("time") <= time.time() + 0.001
    expected = {"stage": "grpo", "step": 3, "reward": 0.5, "num_tokens": 2**60, "lr": 0.25, "cost/money": 0.5}
    assert record == expected
    assert isinstance(record["num_tokens"], int)


def test_what_is_not_finite_is_null_and_named() -> None:
    values = {"loss": float("nan"), "kl": float("inf"), "lr": 1.0}
    assert make_record("a", 1, values, 2.0) == {
        "stage": "a",
        "step": 1,
        "time": 2.0,
        "loss": None,
        "kl": None,
        "lr": 1.0,
        "nonfinite": ["loss", "kl"],
    }


def test_resuming_drops_the_steps_that_will_come_again(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m.jsonl")
    for stage, steps in (("pretrain", 3), ("grpo", 4)):
        for step in range(1, steps + 1):
            log.log(stage, step, {"x": 1.0})
    log.close()
    again = MetricsLog(tmp_path / "m.jsonl")
    assert again.truncate("grpo", 2) == 2
    again.log("grpo", 3, {"x": 2.0})
    again.close()
    kept = [(record["stage"], record["step"], record["x"]) for record in read(tmp_path / "m.jsonl")]
    before = [("pretrain", step, 1.0) for step in (1, 2, 3)]
    assert kept == [*before, ("grpo", 1, 1.0), ("grpo", 2, 1.0), ("grpo", 3, 2.0)]


def test_sinks_see_stages_and_records_and_a_broken_one_is_switched_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    log = MetricsLog(tmp_path / "m.jsonl", [Broken(), recorder], about={"currency": "EUR", "time": 4.0})
    log.begin("grpo", kind="grpo", steps=9, step=4, time=5.0)
    with caplog.at_level(logging.ERROR):
        first = log.log("grpo", 5, {"reward": 1.0})
        second = log.log("grpo", 6, {"reward": 2.0})
        log.close()
    about = {"stage": "grpo", "kind": "grpo", "step": 4, "steps": 9, "currency": "EUR", "time": 5.0}
    assert recorder.seen == [about, first, second, "closed"]
    assert caplog.messages == ["Broken failed and is switched off; metrics.jsonl goes on"]
    assert "no route to host" in caplog.text
    assert len(read(tmp_path / "m.jsonl")) == 2


def test_a_sink_that_cannot_be_closed_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    MetricsLog(tmp_path / "m.jsonl", [Broken()]).close()
    assert "gone" in caplog.text


def test_the_two_kinds_of_sink() -> None:
    plain: Sink = Broken()
    assert isinstance(Recorder(), StageSink)
    assert not isinstance(plain, StageSink)
