"""Rows end to end: the flat sequence knows its rows, and attention keeps them apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.learner.rows import FlatRows
from farthing.models.attention import causal

row_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=8).map(
    lambda found: sorted(found, reverse=True)
)


@given(row_lengths)
def test_tokens_and_positions(lengths: list[int]) -> None:
    rows = [[100 * index + place + 1 for place in range(length)] for index, length in enumerate(lengths)]
    flat = FlatRows(rows)
    assert flat.token_ids.shape == flat.positions.shape == (1, flat.layout.size)
    for start, row in zip(flat.layout.starts, rows, strict=True):
        assert flat.token_ids[0, start : start + len(row)].tolist() == row
        assert flat.positions[0, start : start + len(row)].tolist() == list(range(len(row)))
    owners = flat.token_ids[0] // 100
    counts = [int((owners == index).sum()) for index in range(len(rows))]
    assert counts[1:] == [-(-length // 16) * 16 for length in lengths[1:]], (
        "padding is made of the row's tokens"
    )


@settings(max_examples=20, deadline=None)
@given(row_lengths, st.integers(0, 100))
def test_attention_is_that_of_each_row_alone(lengths: list[int], seed: int) -> None:
    flat = FlatRows([[1] * length for length in lengths])
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(1, flat.layout.size, heads, 8, generator=generator, dtype=torch.float64)
        for heads in (4, 2, 2)
    )
    together = flat.attend(0, q, k, v, 0.3)
    assert together.shape == (1, flat.layout.size, 4, 8)
    for start, length in zip(flat.layout.starts, lengths, strict=True):
        own = slice(start, start + length)
        alone = causal(0, q[:, own], k[:, own], v[:, own], 0.3)
        torch.testing.assert_close(together[:, own], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_carries_no_gradient(dtype: torch.dtype) -> None:
    flat = FlatRows([[1] * 20, [1] * 3])
    q, k, v = (torch.randn(1, flat.layout.size, 2, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    out = flat.attend(0, q, k, v, 0.3)
    sum(
        out[:, start : start + length].sum()
        for start, length in zip(flat.layout.starts, (20, 3), strict=True)
    ).backward()
    used = torch.zeros(flat.layout.size, dtype=torch.bool)
    for start, length in zip(flat.layout.starts, (20, 3), strict=True):
        used[start : start + length] = True
    for tensor in (q, k, v):
        assert tensor.grad is not None
        assert not tensor.grad[0, ~used].any()
        assert tensor.grad.isfinite().all()
