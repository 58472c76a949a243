"""What samples say about a model: each estimator against brute force, and intervals that cover what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.algorithms import estimators
from farthing.algorithms.estimators import cons, interval, pass_at_1, pass_at_k


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n: int) -> None:
    for right in range(n + 1):
        samples = [index < right for index in range(n)]
        for k in range(1, n + 1):
            subsets = list(itertools.combinations(samples, k))
            expected = sum(any(subset) for subset in subsets) / len(subsets)
            assert pass_at_k(n, right, k) == pytest.approx(expected)


def test_pass_at_k_is_unbiased() -> None:
    """Its mean over all outcomes of 6 samples, each right with chance 0.3, is the chance that one of k is."""
    for k in range(1, 7):
        mean = sum(
            math.comb(6, right) * 0.3**right * 0.7 ** (6 - right) * pass_at_k(6, right, k)
            for right in range(7)
        )
        assert mean == pytest.approx(1 - 0.7**k)


@pytest.mark.parametrize(("n", "k"), [(4, 5), (4, 0), (1, 2)])
def test_pass_at_k_needs_k_samples(n: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at_k(n, 0, k)


def test_pass_at_1_is_a_mean_of_means() -> None:
    """A problem with more samples does not count for more."""
    assert pass_at_1([[1.0], [0.0, 0.0, 0.0, 1.0]]) == pytest.approx((1 + 0.25) / 2)


VOTES = [
    (["7", "7", "8"], [1.0, 1.0, 0.0], 1.0),
    (["7", "8", "8"], [1.0, 0.0, 0.0], 0.0),
    (["7", "8"], [1.0, 0.0], 0.5),
    (["7", "8", "9", "9", "8"], [1.0, 0.0, 1.0, 1.0, 0.0], 0.5),
    (["a", "b", "c"], [1.0, 0.0, 0.0], 1 / 3),
    ([None, None, "7"], [0.0, 0.0, 1.0], 1.0),
    ([None, None], [0.0, 0.0], 0.0),
    ([], [], 0.0),
    (["7", "7"], [1.0, 0.0], 0.5),
]


@pytest.mark.parametrize(("answers", "correct", "expected"), VOTES)
def test_votes(answers: list[str | None], correct: list[float], expected: float) -> None:
    """Ties share; who has no answer has no vote; equal answers judged differently count by their mean."""
    assert cons(answers, correct) == pytest.approx(expected)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.booleans()), max_size=9), st.randoms())
def test_votes_do_not_depend_on_the_order(ballot: list[tuple[str | None, bool]], random: object) -> None:
    shuffled = ballot[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (
        [list(column) for column in zip(*b, strict=True)] or [[], []] for b in (ballot, shuffled)
    )
    assert cons(first[0], [float(c) for c in first[1]]) == pytest.approx(
        cons(second[0], [float(c) for c in second[1]])
    )


def test_intervals_cover_what_they_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 evaluations of 96 problems of unequal difficulty, 4 samples each: the true mean lies in the 95% interval
    about as often as promised. A sound interval covers less than 90% here once in 5,000 seeds; the seed is fixed."""
    monkeypatch.setattr(estimators, "RESAMPLES", 500)
    rng = np.random.default_rng(1)
    covered = [0, 0]
    for trial in range(300):
        difficulty = rng.beta(0.6, 1.2, 96)
        values = rng.binomial(4, difficulty) / 4
        for index, level in enumerate((0.95, 0.5)):
            low, high = interval(values.tolist(), seed=trial, level=level)
            covered[index] += low <= 0.6 / 1.8 <= high
    assert covered[0] / 300 > 0.90
    assert 0.38 < covered[1] / 300 < 0.62


def test_intervals_hold_their_mean_and_repeat() -> None:
    values = [0.0, 0.25, 1.0, 0.5, 0.75, 0.0]
    low, high = interval(values, seed=3)
    assert (low, high) == interval(values, seed=3)
    assert 0.0 <= low < sum(values) / 6 < high <= 1.0
    narrow = interval(values * 40, seed=3)
    assert narrow[1] - narrow[0] < (high - low) / 4
