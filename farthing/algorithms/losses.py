"""Losses per token, as pure functions of log-probabilities. M = trained tokens of a micro-batch, flat."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Surrogate = Callable[[Tensor, Tensor, Tensor, float, float], tuple[Tensor, Tensor]]


def cross_entropy(logprobs_M: Tensor) -> Tensor:
    """-log p(token), [M]: supervised training."""
    return -logprobs_M


def clipped_surrogate(
    logprobs_M: Tensor, old_logprobs_M: Tensor, advantages_M: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """(-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), whether the clip binds), both [M], r = exp(new - old).

    Equal clips: GRPO (arXiv 2402.03300, equation 3). clip_high > clip_low: DAPO's clip-higher (arXiv 2503.14476,
    section 3.1).
    """
    ratio_M = torch.exp(logprobs_M - old_logprobs_M)
    clipped_M = ratio_M.clamp(1.0 - clip_low, 1.0 + clip_high)
    plain, bounded = ratio_M * advantages_M, clipped_M * advantages_M
    return -torch.minimum(plain, bounded), bounded < plain


def clipped_weight(
    logprobs_M: Tensor, old_logprobs_M: Tensor, advantages_M: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """(-w A log p with w = clip(r, 1 - clip_low, 1 + clip_high) a constant, whether the clip binds), both [M].

    Every token keeps a gradient, however far its ratio has gone: CISPO (MiniMax-M1, arXiv 2506.13585, equations 4, 5).
    """
    ratio_M = torch.exp(logprobs_M - old_logprobs_M).detach()
    weight_M = ratio_M.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -weight_M * advantages_M * logprobs_M, weight_M != ratio_M


SURROGATES: dict[str, Surrogate] = {
    "clipped_ratio": clipped_surrogate,
    "clipped_weight": clipped_weight,
}
