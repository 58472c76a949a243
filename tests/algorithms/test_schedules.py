"""Learning rates as functions of the step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.algorithms.schedules import cosine, trapezoid, warmup


def test_the_trapezoid_by_hand() -> None:
    """Ten steps: two up, and the last four down to a quarter of the peak, never to zero while a step is left."""
    found = [trapezoid(step, 10, 2, 0.4) for step in range(10)]
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


@given(st.integers(1, 500), st.integers(0, 50), st.floats(0, 1))
def test_every_step_learns_something_and_none_too_much(steps: int, warm: int, decay: float) -> None:
    rates = [trapezoid(step, steps, warm, decay) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@given(st.integers(0, 50))
def test_a_warmup_knows_no_end(warm: int) -> None:
    """So a run can be extended: the rate of a step depends on nothing that comes after."""
    rates = [warmup(step, warm) for step in range(60)]
    assert rates == sorted(rates)
    assert rates[warm:] == [1.0] * (60 - warm)
    assert warm == 0 or rates[0] == pytest.approx(1 / warm)


def test_the_cosine_by_hand() -> None:
    """Two steps up, then from the peak half-way down at the middle, to a tenth where the steps end."""
    found = [cosine(step, 6, 2, 0.1) for step in range(7)]
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.8681981, 0.55, 0.2318019, 0.1])
    assert cosine(0, 1, 0, 0.1) == 1.0
