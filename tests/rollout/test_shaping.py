"""The soft limit on length: the paper's three pieces, and what becomes of rewards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farthing.algorithms.shaping import soft_overlong
from farthing.engine.api import Completion
from farthing.rollout.shaping import soften_limit
from farthing.rollout.types import Group, Prompt, Rollout
from farthing.tasks.task import Score

# DAPO's own numbers: at most 20,480 tokens, of which the last 4,096 are punished.
PAPER = [(0, 0.0), (16_384, 0.0), (16_385, -1 / 4096), (18_432, -0.5), (20_480, -1.0), (30_000, -1.0)]


@pytest.mark.parametrize(("length", "expected"), PAPER)
def test_equation_13(length: int, expected: float) -> None:
    assert soft_overlong(length, 20_480, 4_096) == pytest.approx(expected)


def group() -> Group:
    def rollout(length: int, reward: float | None) -> Rollout:
        completion = Completion("", [1] * length, [0.0] * length, [0.0] * length, "stop", 0)
        return Rollout(completion, "", Score(reward, {"accuracy": reward or 0.0}), reward)

    return Group(
        Prompt({}, (1,), "", ""), (rollout(80, 1.0), rollout(90, 1.0), rollout(100, 0.0), rollout(100, None))
    )


def test_the_reward_falls_and_the_part_is_kept() -> None:
    (shaped,) = soften_limit([group()], max_new_tokens=100, share=0.2, penalty=0.5)
    assert shaped.rewards == [1.0, 0.75, -0.5, None]
    assert [r.score.parts["overlong"] for r in shaped.rollouts] == [0.0, -0.5, -1.0, -1.0]
    assert [r.score.correct for r in shaped.rollouts] == [1.0, 1.0, 0.0, None], "right stays right"


def test_cut_off_for_want_of_room_is_cut_off() -> None:
    """Three tokens before the limit, where there was no room for an answer, as at the limit itself."""
    (one,) = (rollout for rollout in group().rollouts if rollout.num_tokens == 90)
    short = replace(one, completion=replace(one.completion, finish_reason="length"))
    (shaped,) = soften_limit(
        [Group(group().prompt, (one, short))], max_new_tokens=100, share=0.2, penalty=0.5
    )
    assert shaped.rewards == [0.75, 0.5]


def test_without_a_share_nothing_changes() -> None:
    assert soften_limit([group()], 100, 0.0, 0.5) == [group()]
