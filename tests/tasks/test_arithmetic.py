"""The arithmetic taskset."""

import pytest

import farthing.tasks as tasks
from farthing.errors import TaskError
from farthing.tasks.tasksets.arithmetic import is_held_out


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"terms": 4, "operations": "+-*/", "max_number": 12},
        {"operations": "*", "negative": True},
        {"prompt": "full"},
    ],
)
def test_the_check_passes(settings: dict) -> None:
    report = tasks.check(tasks.load("arithmetic", **settings), n=60)
    assert report.ok, report.failures
    assert report.gold_accepted == report.wrong_rejected == 120


def test_problems_obey_their_settings() -> None:
    task = tasks.load("arithmetic", terms=3, operations="-/", max_number=30)
    for index in range(100):
        expression = task.problem("train", index)["expression"]
        words = expression.split()
        assert len(words) == 5 and set(words[1::2]) <= set("-/")
        assert eval(expression) >= 0 and eval(expression) == int(eval(expression))
        assert not is_held_out(expression)


@pytest.mark.parametrize(
    ("line", "expression"),
    [
        ("12 + 7", "12 + 7"),
        ("12+7*3 = ?", "12 + 7 * 3"),
        ("12 + 7 =", "12 + 7"),
        ("12", None),
        ("hello", None),
    ],
)
def test_a_typed_line_is_read(line: str, expression: str | None) -> None:
    task = tasks.load("arithmetic")
    assert task.read(line) == (None if expression is None else {"expression": expression})


def test_settings_that_leave_nothing_are_refused() -> None:
    task = tasks.load("arithmetic", max_number=1, operations="+")
    held = "heldout" if not is_held_out("1 + 1") else "train"
    with pytest.raises(TaskError, match="raise max_number"):
        task.problem(held, 0)
    with pytest.raises(TaskError, match="signs"):
        tasks.load("arithmetic", operations="+%")


def test_an_expression_of_somebody_elses_making_is_refused_clearly() -> None:
    with pytest.raises(TaskError, match="arithmetic"):
        tasks.load("arithmetic").score("<answer>1</answer>", expression="import os")
