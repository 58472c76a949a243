"""Latent attention: both forms are one function, and what is cached is enough to go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models.attention import cached_shapes, causal
from farthing.models.checkpoint import load_model
from farthing.models.decoder import Decoder

Theirs = Callable[[str], tuple[Any, Path]]
LATENT_CASES = [
    "deepseek_v2-lite",
    "deepseek_v2-groups",
    "deepseek_v3",
    "deepseek_v3-plain",
    "deepseek_v3-yarn",
]


def reading_latents(layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """`causal`, but for not being it: latent attention hands over its latents."""
    assert keys.shape[2] == 1 and torch.equal(values, keys[..., : values.shape[-1]])
    return causal(layer, queries, keys, values, scale)


class Cache:
    """The plainest cache: everything that was ever handed over, by layer; keeps no more than `cached_shapes` says."""

    def __init__(self, model: Decoder) -> None:
        (key_heads, key_channels), (value_heads, value_channels) = cached_shapes(model.config)
        layers = range(model.config.num_hidden_layers)
        self.keys = [torch.zeros(1, 0, key_heads, key_channels) for _ in layers]
        self.values = [torch.zeros(1, 0, value_heads, value_channels) for _ in layers]

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        kept = self.values[layer].shape[-1]
        self.keys[layer] = torch.cat([self.keys[layer], keys], dim=1)
        self.values[layer] = torch.cat([self.values[layer], values[..., :kept]], dim=1)
        seen = self.values[layer] if kept else self.keys[layer][..., : values.shape[-1]]
        total, new = self.keys[layer].shape[1], queries.shape[1]
        mask = torch.ones(new, total, dtype=torch.bool).tril(total - new)
        out = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            self.keys[layer].transpose(1, 2),
            seen.transpose(1, 2),
            attn_mask=mask,
            scale=scale,
            enable_gqa=True,
        )
        return out.transpose(1, 2)


@pytest.mark.parametrize("latent_case", LATENT_CASES)
def test_both_forms_give_the_same_logits_and_gradients(latent_case: str, theirs: Theirs) -> None:
    model, _ = load_model(theirs(latent_case)[1])
    ids = torch.randint(1, model.config.vocab_size, (2, 70), generator=torch.Generator().manual_seed(0))
    results = []
    for attend in (causal, reading_latents):
        model.zero_grad()
        logits = model.logits(model.hidden(ids, attend=attend))
        logits.square().mean().backward()
        results.append([logits.detach(), *(p.grad.clone() for p in model.parameters())])
    for expanded, absorbed in zip(*results, strict=True):
        assert (expanded - absorbed).abs().max() <= 1e-5 * expanded.abs().max()


@torch.no_grad()
def test_going_on_from_a_cache_is_reading_everything(case: str, theirs: Theirs) -> None:
    model, _ = load_model(theirs(case)[1])
    ids = torch.randint(1, model.config.vocab_size, (1, 40), generator=torch.Generator().manual_seed(1))
    whole = model(ids)
    cache, parts = Cache(model), []
    for start, end in ((0, 17), (17, 18), (18, 19), (19, 33), (33, 40)):
        positions = torch.arange(start, end).unsqueeze(0)
        parts.append(model.logits(model.hidden(ids[:, start:end], positions, cache)))
    assert (torch.cat(parts, dim=1) - whole).abs().max() <= 1e-5 * whole.abs().max()
