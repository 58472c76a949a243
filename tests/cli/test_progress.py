"""What the live view says, worked out from records."""

import pytest

from farthing.cli.progress import Progress, clock, sparkline


def record(step: int, time: float, **values: float | None) -> dict[str, object]:
    return {"stage": "grpo", "step": step, "time": time, **values}


def running(*steps: int) -> Progress:
    progress = Progress()
    progress.begin({"stage": "grpo", "steps": 100, "currency": "EUR", "time": 997.0})
    for step in steps:
        progress.update(record(step, 1000.0 + 2 * step, reward=step / 10))
    return progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03"), (-3, "0:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_time_left_follows_the_pace() -> None:
    assert running(1).seconds_left() is None
    assert running(1, 2, 3, 4).seconds_left() == pytest.approx(2 * 96)
    assert Progress().seconds_left() is None
    assert running(99, 100).seconds_left() is None
    without_end = Progress()
    for step in (1, 2):
        without_end.update(record(step, step))
    assert without_end.seconds_left() is None


def test_two_records_of_one_step_are_one_step() -> None:
    progress = running(1, 2)
    progress.update(record(2, 1030.0, **{"eval/pass@1": 0.5}))
    assert progress.seconds_left() == pytest.approx(2 * 98)
    assert ("held-out pass@1", "50.0%") in progress.figures()
    assert ("reward", "0.200") in progress.figures()


def test_figures_are_those_that_are_known_and_say_what_broke() -> None:
    progress = running(1)
    broken = record(2, 1004.0, **{"reward": None, "pass_rate": 0.125, "completions/mean_length": 1234.5})
    progress.update(broken)
    assert progress.figures() == [("reward", "not finite"), ("pass rate", "12.5%"), ("length", "1,234")]
    assert progress.curve == [0.1]


def test_cost_in_money_and_time_outlives_the_stage() -> None:
    progress = running(1)
    assert progress.cost() == ""
    progress.update(record(2, 1004.0, **{"cost/money": 0.0125, "cost/wall_s": 90.0}))
    assert progress.cost() == "EUR 0.0125 in 1:30"
    progress.begin({"stage": "final_eval", "steps": 3})
    assert progress.cost() == "EUR 0.0125 in 1:30"
    assert progress.figures() == []
    progress.begin({"stage": "report", "time": 1010.0})
    assert progress.done == ["grpo 0:07", "final_eval 0:06"]
    progress.values["cost/money"] = 0.0
    assert progress.cost() == "1:30"


def test_an_unannounced_stage_announces_itself() -> None:
    progress = Progress()
    progress.update(record(1, 5.0, loss=2.0))
    assert (progress.stage, progress.step, progress.steps) == ("grpo", 1, 0)
    assert progress.line() == "grpo 1  loss 2.000"


def test_the_line_holds_everything() -> None:
    progress = running(1, 2)
    progress.values["cost/wall_s"] = 61.0
    assert progress.line() == "grpo 2/100  reward 0.200  3:16 left  1:01"


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([5, 5], 10) == "▁▁"
    assert sparkline([], 10) == ""
    assert sparkline([1.0], 0) == ""


def test_the_history_is_bounded() -> None:
    assert len(running(*range(1, 1000)).curve) <= 401


def test_the_pace_is_that_of_the_last_records() -> None:
    progress = running(1)
    progress.update(record(2, 5000.0))  # an hour of compiling
    for step in range(3, 40):
        progress.update(record(step, 5000.0 + step))
    assert progress.seconds_left() == pytest.approx(100 - 39)
