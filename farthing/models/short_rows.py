"""Causal attention for short bfloat16 rows on CPUs, as plain batched matrix products.

The fused CPU kernel is built for long rows in float32; on rows of 100 tokens in bfloat16 it takes several times as long
as the products it stands for (`bench/attention.py`). Scores of short rows fit in the cache, so here they are kept.

Shapes: N rows x key heads, G query heads per key head, T tokens, S tokens read, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LONGEST_ROW = 512


def pays(queries: Tensor, keys: Tensor) -> bool:
    """Whether queries [B, T, H, D] and keys [B, S, K, D] are better served here than by the fused kernel."""
    return queries.dtype == torch.bfloat16 and queries.device.type == "cpu" and keys.shape[1] <= LONGEST_ROW


def short_rows(
    queries: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None = None
) -> Tensor:
    """queries [B, T, H, D], keys [B, S, K, D], values [B, S, K, V] -> [B, T, H, V]; query head h reads key head
    h // (H / K). Equal to scaled dot-product attention (arXiv 1706.03762, equation 1) with bool `mask` [B or 1, T, S],
    true where a key is seen, by default a causal one (S = T)."""
    rows, tokens, heads, _ = queries.shape
    key_heads = keys.shape[2]
    group = heads // key_heads
    grouped = (
        queries.unflatten(2, (key_heads, group))
        .permute(0, 2, 3, 1, 4)
        .reshape(rows * key_heads, group * tokens, -1)
    )
    if mask is None:
        mask = torch.ones(1, tokens, tokens, dtype=torch.bool).tril()
    hidden = _hidden(mask, queries.dtype, key_heads, group)
    out: Tensor = _Attention.apply(grouped, _by_head(keys), _by_head(values), hidden, scale)
    out = out.view(rows, key_heads, group, tokens, -1).permute(0, 3, 1, 2, 4)
    return out.reshape(rows, tokens, heads, -1)


def _hidden(seen: Tensor, dtype: torch.dtype, key_heads: int, group: int) -> Tensor:
    """What is added to the scores, -inf where a key is not seen: [G*T, S], or [N, G*T, S] where rows differ."""
    hidden_BTS = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
    if len(seen) == 1:
        return hidden_BTS[0].repeat(group, 1)
    return (
        hidden_BTS.unsqueeze(1)
        .expand(-1, key_heads * group, -1, -1)
        .reshape(len(seen) * key_heads, -1, seen.shape[-1])
    )


def _by_head(x: Tensor) -> Tensor:
    """[B, T, K, D] -> [B * K, T, D], contiguous."""
    return x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3])


class _Attention(torch.autograd.Function):
    """softmax(q k^T scale + mask) v with its backward written out: five products, no saved scores but the
    probabilities. q [N, G*T, D], k [N, S, D], v [N, S, V], mask [G*T, S] or [N, G*T, S]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        probabilities = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale).softmax(dim=-1)
        ctx.save_for_backward(q, k, v, probabilities)
        ctx.scale = scale
        return torch.bmm(probabilities, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, probabilities = ctx.saved_tensors
        grad_out = grads[0]
        grad_v = torch.bmm(probabilities.transpose(1, 2), grad_out)
        grad_p = torch.bmm(grad_out, v.transpose(1, 2))
        grad_s = torch._softmax_backward_data(grad_p, probabilities, -1, probabilities.dtype)
        grad_q = torch.bmm(grad_s, k).mul_(ctx.scale)
        grad_k = torch.bmm(grad_s.transpose(1, 2), q).mul_(ctx.scale)
        return grad_q, grad_k, grad_v, None, None
