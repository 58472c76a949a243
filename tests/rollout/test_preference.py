"""Preference as a part of the score: what it sees, what it says, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from farthing.config import parse
from farthing.errors import UserError
from farthing.rollout.collect import reward_of
from farthing.rollout.preference import Readable, preferred, shown
from farthing.stages.config.grpo import GrpoConfig
from farthing.tasks.task import Problem, Score


def checked(pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
    return [Score(1.0, {"accuracy": 1.0}, "4", None) for _ in pairs]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("four", 1.0), ("", 0.0), (" \n", 0.0), ("a\ufffd", 0.75), ("a\nb\na", 0.75), ("word " * 600, 0.75)],
)
def test_the_rules_of_the_twin(reply: str, expected: float) -> None:
    assert Readable().judge([({}, reply)]) == [expected]


def test_only_what_a_person_sees_is_judged() -> None:
    assert shown("<think>a\na</think><answer>4</answer>") == "4"
    assert shown("<think>a\na</think>It is four.") == "It is four."
    assert shown("<think>never closed") == ""


def test_it_is_one_more_part_beside_the_others() -> None:
    (score,) = preferred(checked, Readable())([("<think>x</think>four\nfour", {})])
    assert score.parts == {"accuracy": 1.0, "preference": 0.75} and score.correct == 1.0
    assert reward_of(score, {"accuracy": 1.0, "preference": 2.0}) == 2.5
    assert preferred(checked, None) is checked


def test_a_preference_is_named_and_weighed_or_neither() -> None:
    parse(GrpoConfig, {"preference": "readable", "rewards": {"accuracy": 1.0, "preference": 0.5}}, "here")
    for keys in ({"preference": "readable"}, {"rewards": {"accuracy": 1.0, "preference": 0.5}}):
        with pytest.raises(UserError, match="preference"):
            parse(GrpoConfig, keys, "here")
