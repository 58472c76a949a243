"""Attention: how queries, keys and values are made. Where keys live and what may be seen is the caller's `Attend`.

Shapes: B rows, T tokens, C hidden_size, H query heads, K key heads (H a multiple of K), D head_dim.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farthing.models import fused, fused_training
from farthing.models.config import ModelConfig
from farthing.models.layers import Linear, Projection, RMSNorm
from farthing.models.rmsnorm import rms_norm
from farthing.models.rope import rotate
from farthing.models.short_rows import pays, short_rows


class Attend(Protocol):
    """The one seam between the model and whoever owns the keys and values.

    Given layer `layer`'s new queries [B, T, H, D], keys [B, T, K, D] and values [B, T, K, V], return what each query
    reads, [B, T, H, V]. Implementations: `causal` here (whole rows, training); the engine's slots; the learner's shared
    prompts.

    Latent attention hands over its latents: K = 1, and `values` is a view of the first V channels of `keys`, so that a
    cache need not keep them (`cached_shapes` then says 0 value channels). An implementation whose attribute
    `expands_latents` is true gets the keys and values of every head instead.
    """

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor: ...


def causal(layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Every token sees itself and what stands before it in its own row; padding belongs on the right.

    Scores and softmax follow scaled dot-product attention (arXiv 1706.03762, equation 1).
    """
    if pays(queries, keys):
        return short_rows(queries, keys, values, scale)
    out = F.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        is_causal=True,
        scale=scale,
        enable_gqa=queries.shape[2] != keys.shape[2],
    )
    return out.transpose(1, 2)


def masked(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """`causal` for rows that continue other rows: keys and values [B, S, K, D] of more tokens than the queries, bool
    `mask` [B or 1, T, S] true where a query sees a key."""
    if pays(queries, keys):
        return short_rows(queries, keys, values, scale, mask)
    out = F.scaled_dot_product_attention(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask.unsqueeze(1),
        scale=scale,
        enable_gqa=queries.shape[2] != keys.shape[2],
    )
    return out.transpose(1, 2)


def expands_latents(attend: Attend) -> bool:
    """Whether latent attention should form every head's keys and values: cheaper where nothing is cached."""
    return attend is causal or getattr(attend, "expands_latents", False)


def at(x_BT: Tensor, kept: Tensor | None) -> Tensor:
    """The places `kept` [M] of axis 1; all where None."""
    return x_BT if kept is None else x_BT.index_select(1, kept)


class Attention(nn.Module):
    """Grouped-query attention with optional biases and optional per-head RMSNorm of queries and keys (Qwen3)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.num_heads, self.num_key_value_heads = config.num_attention_heads, config.num_key_value_heads
        self.interleaved = config.rope.interleaved
        query_size, key_size = self.num_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        self.q_proj = Linear(config.hidden_size, query_size, config.attention_bias)
        self.k_proj = Linear(config.hidden_size, key_size, config.attention_bias)
        self.v_proj = Linear(config.hidden_size, key_size, config.attention_bias)
        self.o_proj = Linear(query_size, config.hidden_size)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.qkv = Projection(self.q_proj, self.k_proj, self.v_proj)

    def forward(
        self, x_BTC: Tensor, cos: Tensor, sin: Tensor, attend: Attend, kept: Tensor | None = None
    ) -> Tensor:
        """[B, T, C], or [B, M, C] for the places `kept` [M] alone."""
        q_BTHD, k_BTKD, v_BTKD = self._heads(self.qkv(x_BTC), cos, sin)
        out_BTHD = attend(self.layer, q_BTHD, k_BTKD, v_BTKD, self.head_dim**-0.5)
        return self.o_proj(at(out_BTHD, kept).flatten(-2))

    def _heads(self, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, T, H, D], keys and values [B, T, K, D], ready to be read."""
        heads, keys = self.num_heads, self.num_key_value_heads
        gains = (self.q_norm.weight, self.k_norm.weight) if self.q_norm and self.k_norm else ()
        if torch.is_grad_enabled() and not self.interleaved and fused_training.pays(qkv, cos, wide=gains):
            q_gain, k_gain = gains or (None, None)
            cos, sin = (table.expand(len(qkv), -1, -1).flatten(0, 1).contiguous() for table in (cos, sin))
            eps, shape = self.q_norm.eps if self.q_norm else 0.0, (heads, keys, self.head_dim)
            made = fused_training.Turn.apply(qkv.flatten(0, 1), q_gain, k_gain, cos, sin, shape, eps)
            q, k, v = (x.unflatten(0, qkv.shape[:2]) for x in made)
            return q, k, v
        qk, v = qkv.unflatten(-1, (heads + 2 * keys, self.head_dim)).split((heads + keys, keys), dim=-2)
        q, k = self._normed_and_turned(qk, cos, sin).split((heads, keys), dim=-2)
        return q, k, v

    def _normed_and_turned(self, qk: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries and keys [B, T, H + K, D] together: half as many passes over memory."""
        heads, keys, gains, eps = self.num_heads, self.num_key_value_heads, None, 0.0
        if self.q_norm is not None and self.k_norm is not None:
            gains, eps = (self.q_norm.weight, self.k_norm.weight), self.q_norm.eps
        if not self.interleaved and fused.stream_pays(gains[0] if gains else qk, qk.dtype) and fused.pays(qk):
            return fused.norm_rotate(qk, heads, gains, eps, cos, sin)
        if gains is not None:
            gain = torch.cat((gains[0].expand(heads, -1), gains[1].expand(keys, -1)))
            qk = rms_norm(qk, gain, eps, qk.dtype)
        return rotate(qk, cos, sin, self.interleaved)


def cached_shapes(config: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """((key heads, key channels), (value heads, value channels)) that one token leaves in the cache per layer.

    With latent attention the values are the first `kv_lora_rank` channels of the keys: 0 value channels are kept.
    """
    if config.mla is not None:
        return (1, config.mla.latent_dim), (1, 0)
    shape = (config.num_key_value_heads, config.head_dim)
    return shape, shape
