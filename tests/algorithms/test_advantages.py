"""Advantages: what must hold for any group, and each formula by hand."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.algorithms.advantages import ADVANTAGES, Rewards, is_dead, leave_one_out, mean_only, zscore

rewards = st.lists(st.none() | st.floats(-10, 10), max_size=16)
functions = pytest.mark.parametrize("name", ADVANTAGES)


def scored(group: Rewards) -> list[float]:
    return [reward for reward in group if reward is not None]


@functions
@given(group=rewards)
def test_advantages_of_a_group_sum_to_zero(name: str, group: Rewards) -> None:
    advantages = ADVANTAGES[name](group)
    assert len(advantages) == len(group)
    assert abs(math.fsum(advantages)) < 1e-8 * (1 + max(map(abs, advantages), default=0.0))


@functions
@given(group=rewards, shift=st.floats(-100, 100))
def test_a_constant_added_to_all_rewards_changes_nothing(name: str, group: Rewards, shift: float) -> None:
    shifted = [None if reward is None else reward + shift for reward in group]
    assert ADVANTAGES[name](shifted) == pytest.approx(ADVANTAGES[name](group), abs=1e-7)


@functions
@given(group=rewards)
def test_what_could_not_be_scored_takes_no_part(name: str, group: Rewards) -> None:
    """It gets 0, and the others get what they would get without it."""
    advantages = ADVANTAGES[name](group)
    kept = iter(ADVANTAGES[name](scored(group)))
    assert advantages == [0.0 if reward is None else next(kept) for reward in group]


@functions
@given(group=rewards)
def test_better_is_never_worse(name: str, group: Rewards) -> None:
    pairs = sorted((r, a) for r, a in zip(group, ADVANTAGES[name](group), strict=True) if r is not None)
    assert all(low[1] <= high[1] for low, high in itertools.pairwise(pairs))


@given(group=rewards)
def test_a_group_is_dead_exactly_when_no_advantage_differs_from_zero(group: Rewards) -> None:
    values = scored(group)
    assert is_dead(group) == (len(set(values)) < 2)
    if is_dead(group):
        assert not any(a for function in ADVANTAGES.values() for a in function(group))


@functions
def test_a_dead_group_is_exactly_zero_where_its_mean_is_not_its_reward(name: str) -> None:
    assert math.fsum([0.1] * 3) / 3 != 0.1
    assert ADVANTAGES[name]([0.1] * 3) == [0.0] * 3


@pytest.mark.parametrize("group", [[], [None], [None, None], [3.0], [None, 2.0, None]])
def test_one_scored_sample_has_nothing_to_be_compared_with(group: Rewards) -> None:
    for function in ADVANTAGES.values():
        assert function(group) == [0.0] * len(group)
    assert is_dead(group)


def test_each_formula_by_hand() -> None:
    """Rewards 1, 0, 0, 1, 0.5 and one that could not be scored."""
    group = [1.0, 0.0, None, 0.0, 1.0, 0.5]
    spread = statistics.stdev([1.0, 0.0, 0.0, 1.0, 0.5])
    assert mean_only(group) == pytest.approx([0.5, -0.5, 0.0, -0.5, 0.5, 0.0])
    assert zscore(group) == pytest.approx([d / (spread + 1e-4) for d in (0.5, -0.5, 0.0, -0.5, 0.5, 0.0)])
    # The others of the first are 0, 0, 1, 0.5: their mean is 0.375.
    assert leave_one_out(group) == pytest.approx([1 - 0.375, 0 - 0.625, 0.0, 0 - 0.625, 1 - 0.375, 0.0])


def test_epsilon_keeps_tiny_differences_tiny() -> None:
    """Rewards that differ by less than epsilon do not become a full-sized lesson."""
    assert max(map(abs, zscore([1.0, 1.0 + 1e-7]))) < 1e-2
    assert zscore([0.0, 1.0], epsilon=0.0) == pytest.approx([-(0.5**0.5), 0.5**0.5])
