"""From logits to tokens. A token is a function of (logits, seed of the request, position): nothing is carried along.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from farthing.models import fused

_MASK = np.uint64(0xFFFFFFFFFFFFFFFF)
LOWEST_TEMPERATURE = 1e-6


def uniforms(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """float64 [N] in [0, 1), one per (seed, position); counted, not drawn in sequence.

    The mixing function is splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014),
    applied to the seed and again to seed and position together.
    """
    with np.errstate(over="ignore"):
        state = _mix(seeds.astype(np.uint64)) + positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mix(state & _MASK)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Filters:
    """Per-row sampling settings as columns: temperature [N], top_k [N] (0 = all), top_p [N] (1 = all)."""

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray

    @property
    def is_plain(self) -> bool:
        """Every row is drawn from the raw model: one distribution serves as both."""
        return bool((self.temperature == 1).all() and (self.top_k == 0).all() and (self.top_p == 1).all())


@dataclass(frozen=True)
class Drawn:
    """token_ids int64 [N]; logprobs float32 [N] of the raw model; sampling_logprobs float32 [N] as drawn."""

    token_ids: Tensor
    logprobs: Tensor
    sampling_logprobs: Tensor

    @classmethod
    def from_model(cls, token_ids: Tensor, logprobs: Tensor) -> Drawn:
        """Drawn from the raw model: one distribution serves as both."""
        return cls(token_ids, logprobs, logprobs)


def sample(
    logits_NV: Tensor, filters: Filters, uniform_N: np.ndarray, wanted_NV: Tensor | None = None
) -> Drawn:
    """Draw one token a row by inverting the cumulative distribution at `uniform_N`.

    `wanted_NV`: logits to draw from instead, where requests have a say in them; `logprobs` stay the raw model's.
    """
    if filters.is_plain and wanted_NV is None and logits_NV.dtype == torch.float32 and fused.pays(logits_NV):
        return Drawn.from_model(*fused.draw(logits_NV, torch.from_numpy(uniform_N)))
    raw_NV = torch.log_softmax(logits_NV.float(), dim=-1)
    base_NV = raw_NV if wanted_NV is None else torch.log_softmax(wanted_NV, dim=-1)
    shaped_NV = base_NV if filters.is_plain else _shape(base_NV, filters)
    cumulative_NV = shaped_NV.exp().cumsum(dim=-1, dtype=torch.float64)
    threshold_N1 = torch.from_numpy(uniform_N).to(logits_NV.device).unsqueeze(-1) * cumulative_NV[:, -1:]
    token_N1 = torch.searchsorted(cumulative_NV, threshold_N1, right=True).clamp_(max=logits_NV.shape[-1] - 1)
    greedy = torch.from_numpy(filters.temperature == 0).to(logits_NV.device)
    if not filters.is_plain and bool(greedy.any()):
        token_N1 = torch.where(greedy.unsqueeze(-1), base_NV.argmax(dim=-1, keepdim=True), token_N1)
    logprobs = raw_NV.gather(-1, token_N1).squeeze(-1)
    if filters.is_plain and wanted_NV is None:
        return Drawn.from_model(token_N1.squeeze(-1), logprobs)
    drawn = shaped_NV.gather(-1, token_N1).squeeze(-1).masked_fill(greedy, 0.0)
    return Drawn(token_N1.squeeze(-1), logprobs, drawn)


def _shape(raw_NV: Tensor, filters: Filters) -> Tensor:
    """Log-probabilities after temperature, then top-k, then top-p, renormalised; greedy rows pass unchanged."""
    # Below the bound float32 has no quotient, and the draw has long been greedy.
    bounded = np.maximum(filters.temperature, LOWEST_TEMPERATURE)
    temperature = torch.from_numpy(np.where(filters.temperature == 0, 1.0, bounded)).to(raw_NV)
    shaped = torch.log_softmax(raw_NV / temperature.unsqueeze(-1), dim=-1)
    if (filters.top_k == 0).all() and (filters.top_p == 1).all():
        return shaped
    ranked, order = shaped.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(shaped.shape[-1], device=shaped.device)
    top_k = torch.from_numpy(np.where(filters.top_k == 0, shaped.shape[-1], filters.top_k)).to(shaped.device)
    probability = ranked.exp()
    before = probability.cumsum(dim=-1) - probability
    top_p = torch.from_numpy(filters.top_p).to(shaped).unsqueeze(-1)
    # The most likely token always stays: its `before` is 0. top_p = 1 must keep all whatever cumsum rounds to.
    dropped = (rank >= top_k.unsqueeze(-1)) | ((before >= top_p) & (top_p < 1))
    ranked = ranked.masked_fill(dropped, float("-inf"))
    return torch.log_softmax(torch.empty_like(shaped).scatter_(-1, order, ranked), dim=-1)
