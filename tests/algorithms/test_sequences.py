"""Sums within sequences, and the weights made of them: by hand, and whatever else is in the micro-batch."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farthing.algorithms.correction import truncated_weights
from farthing.algorithms.sequences import row_mean, row_sum

VALUES = torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0, -5.0], dtype=torch.float64)
ROWS = torch.tensor([0, 0, 0, 1, 1, 2])


def test_by_hand() -> None:
    assert row_sum(VALUES, ROWS).tolist() == [6, 6, 6, 30, 30, -5]
    assert row_mean(VALUES, ROWS).tolist() == [2, 2, 2, 15, 15, -5]


def test_the_gradient_of_a_mean_reaches_every_token_of_its_row() -> None:
    values = VALUES.clone().requires_grad_()
    row_mean(values, ROWS)[3].backward()
    assert values.grad is not None and values.grad.tolist() == [0, 0, 0, 0.5, 0.5, 0]


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_a_row_is_the_same_to_the_last_bit_in_any_company(lengths: list[int], seed: int) -> None:
    """float32, alone and among others: what a micro-batch holds beside a row changes no rounding."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(length, generator=generator) for length in lengths]
    order = random.Random(seed).sample(range(len(parts)), len(parts))
    rows = torch.arange(len(parts)).repeat_interleave(torch.tensor([lengths[index] for index in order]))
    together = row_mean(torch.cat([parts[index] for index in order]), rows)
    found = dict(zip(order, together.split([lengths[index] for index in order]), strict=True))
    for index, part in enumerate(parts):
        alone = row_mean(part, torch.zeros(len(part), dtype=torch.int64))
        assert torch.equal(found[index], alone)


@pytest.mark.parametrize(
    ("level", "expected"),
    [("token", [0.5, 1.5, 2.0, 1.0]), ("sequence", [2.0, 2.0, 2.0, 1.0])],
)
def test_truncated_weights_by_hand(level: str, expected: list[float]) -> None:
    """Ratios 1/2, 3/2 and 4 in one sequence, whose product is 3; 1 in another; the cap is 2."""
    rollout = torch.zeros(4, dtype=torch.float64)
    old = torch.tensor([0.5, 1.5, 4.0, 1.0], dtype=torch.float64).log().requires_grad_()
    weights = truncated_weights(old, rollout, torch.tensor([0, 0, 0, 1]), level, 2.0)
    assert weights.tolist() == pytest.approx(expected)
    assert not weights.requires_grad, "a weight is a constant of the loss"


def test_below_the_cap_the_product_is_exact() -> None:
    old = torch.tensor([math.log(1.2), math.log(0.5)], dtype=torch.float64)
    found = truncated_weights(
        old, torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64), "sequence", 2
    )
    assert found.tolist() == pytest.approx([0.6, 0.6])
