"""Attention of short bfloat16 rows against the fused kernel in float32, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models.attention import causal
from farthing.models.short_rows import LONGEST_ROW, pays, short_rows

# (rows, tokens, query heads, key heads, key channels, value channels)
SHAPES = [
    (1, 1, 1, 1, 8, 8),
    (3, 16, 4, 2, 8, 8),
    (2, 33, 6, 1, 16, 16),
    (2, 48, 3, 3, 12, 20),
    (1, 130, 4, 4, 8, 4),
]


def fused(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    gqa = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=gqa).transpose(
        1, 2
    )


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    rows, tokens, heads, keys, channels, value_channels = shape
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = [(heads, channels), (keys, channels), (keys, value_channels), (heads, value_channels)]
    # Rounded to bfloat16 first, so that both sides begin with the same numbers.
    made = [torch.randn(rows, tokens, *size, generator=generator).bfloat16().to(dtype) for size in sizes]
    return [x.requires_grad_() for x in made[:3]] + made[3:]


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_against_float32(shape: tuple[int, ...]) -> None:
    """Values and gradients differ by bfloat16's own rounding: 1% of the largest, half a percent on average."""
    results = []
    for dtype, attention in ((torch.float32, fused), (torch.bfloat16, short_rows)):
        *qkv, weight = inputs(shape, dtype)
        out = attention(*qkv, 0.3)
        grads = torch.autograd.grad((out * weight).sum(), qkv)
        results.append([out.detach(), *grads])
    for exact, coarse in zip(*results, strict=True):
        assert coarse.shape == exact.shape and coarse.dtype == torch.bfloat16
        gap, size = (coarse.float() - exact).abs(), exact.abs()
        assert gap.max() <= 0.02 * size.max() + 1e-6
        assert gap.mean() <= 0.01 * size.mean() + 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_the_formulas_in_float64(shape: tuple[int, ...]) -> None:
    """The written-out backward is exact: nothing is left but rounding at the fifteenth digit."""
    *qkv, weight = inputs(shape, torch.float64)
    for attention in (fused, short_rows):
        assert attention(*qkv, 0.3).shape == weight.shape
    outs = [attention(*qkv, 0.3) for attention in (fused, short_rows)]
    torch.testing.assert_close(outs[0], outs[1], atol=1e-12, rtol=0)
    grads = [torch.autograd.grad((out * weight).sum(), qkv) for out in outs]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


def test_it_is_taken_where_it_pays_and_nowhere_else() -> None:
    short, long = (
        torch.zeros(1, length, 2, 8, dtype=torch.bfloat16) for length in (LONGEST_ROW, LONGEST_ROW + 1)
    )
    assert pays(short, short)
    assert not pays(short, long) and not pays(short.float(), short.float())
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 20, 2, 8, generator=generator).bfloat16()
    assert torch.equal(causal(0, q, q, q, 0.3), short_rows(q, q, q, 0.3))
    rows = torch.randn(1, LONGEST_ROW + 8, 1, 8, generator=generator).bfloat16()
    torch.testing.assert_close(
        causal(0, rows, rows, rows, 0.3), short_rows(rows, rows, rows, 0.3), atol=0.03, rtol=0
    )
