"""Multi-head latent attention: every head's keys and values are linear in one short latent vector per token.

Two forms give the same numbers. Expanded: keys and values of every head are formed from the latents, then read as
usual; cheapest for whole rows. Absorbed: the expansion moves to the query before and to the result after, so that the
latents themselves are keys and values of one shared head; this is what is cached, 576 numbers per token and layer in
DeepSeek-V3 instead of 40,960. Source: arXiv 2405.04434, section 2.1, equations 9-19 and the remark on absorption.

Shapes: B rows, T tokens, C hidden_size, H heads, R kv_lora_rank, N qk_nope_head_dim, P qk_rope_head_dim, V v_head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from farthing.models.attention import Attend, at, expands_latents
from farthing.models.config import ModelConfig
from farthing.models.layers import Linear, Projection, RMSNorm
from farthing.models.rope import rotate, softmax_factor

# The norms of the latents do not follow rms_norm_eps in the checkpoint authors' code.
LATENT_EPS = 1e-6


class LatentAttention(nn.Module):
    """Attention over latents, with the query through a latent of its own where `q_lora_rank` is set."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        mla = config.mla
        assert mla is not None
        self.layer, self.num_heads = layer, config.num_attention_heads
        self.nope, self.rope, self.rank = mla.qk_nope_head_dim, mla.qk_rope_head_dim, mla.kv_lora_rank
        self.interleaved = config.rope.interleaved
        self.scale = mla.query_dim**-0.5 * softmax_factor(config.active_rope)
        query_size = self.num_heads * mla.query_dim
        if mla.q_lora_rank is None:
            first = self.q_proj = Linear(config.hidden_size, query_size)
        else:
            first = self.q_a_proj = Linear(config.hidden_size, mla.q_lora_rank)
            self.q_a_layernorm = RMSNorm(mla.q_lora_rank, LATENT_EPS)
            self.q_b_proj = Linear(mla.q_lora_rank, query_size)
        self.kv_a_proj_with_mqa = Linear(config.hidden_size, mla.latent_dim)
        self.kv_a_layernorm = RMSNorm(self.rank, LATENT_EPS)
        self.kv_b_proj = Linear(self.rank, self.num_heads * (self.nope + mla.v_head_dim))
        self.o_proj = Linear(self.num_heads * mla.v_head_dim, config.hidden_size)
        self.has_query_latent = mla.q_lora_rank is not None
        self.down = Projection(first, self.kv_a_proj_with_mqa)

    def forward(
        self, x_BTC: Tensor, cos: Tensor, sin: Tensor, attend: Attend, kept: Tensor | None = None
    ) -> Tensor:
        """[B, T, C], or [B, M, C] for the places `kept` [M] alone."""
        query, latent_BTR, key_BTP = self.down(x_BTC).split(
            (self.down.parts[0].weight.shape[0], self.rank, self.rope), dim=-1
        )
        if self.has_query_latent:
            query = self.q_b_proj(self.q_a_layernorm(query))
        nope_BTHN, rope_BTHP = query.unflatten(-1, (self.num_heads, -1)).split((self.nope, self.rope), dim=-1)
        rope_BTHP = rotate(rope_BTHP, cos, sin, self.interleaved)
        key_BT1P = rotate(key_BTP.unsqueeze(-2), cos, sin, self.interleaved)
        latent_BTR = self.kv_a_layernorm(latent_BTR)
        form = self._expanded if expands_latents(attend) else self._absorbed
        out_BTHV = form(nope_BTHN, rope_BTHP, latent_BTR, key_BT1P, attend)
        return self.o_proj(at(out_BTHV, kept).flatten(-2))

    def _expanded(self, nope: Tensor, rope: Tensor, latent: Tensor, key: Tensor, attend: Attend) -> Tensor:
        """Keys and values of every head, [B, T, H, N + P] and [B, T, H, V]."""
        expanded = self.kv_b_proj(latent).unflatten(-1, (self.num_heads, -1))
        keys = torch.cat((expanded[..., : self.nope], key.expand(-1, -1, self.num_heads, -1)), dim=-1)
        queries = torch.cat((nope, rope), dim=-1)
        return attend(self.layer, queries, keys, expanded[..., self.nope :], self.scale)

    def _absorbed(self, nope: Tensor, rope: Tensor, latent: Tensor, key: Tensor, attend: Attend) -> Tensor:
        """One key head [B, T, 1, R + P]; its first R channels are the values."""
        weight_HER = self.kv_b_proj.matrix(latent.dtype).unflatten(0, (self.num_heads, -1))
        inward_HNR, outward_HVR = weight_HER[:, : self.nope], weight_HER[:, self.nope :]
        queries = torch.cat((torch.einsum("bthn,hnr->bthr", nope, inward_HNR), rope), dim=-1)
        keys = torch.cat((latent.unsqueeze(-2), key), dim=-1)
        read = attend(self.layer, queries, keys, keys[..., : self.rank], self.scale)
        return torch.einsum("bthr,hvr->bthv", read, outward_HVR)
