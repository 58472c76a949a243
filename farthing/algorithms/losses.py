"""Losses per token, as pure functions of log-probabilities. M = trained tokens of a micro-batch, flat."""

from __future__ import annotations

import torch
from torch import Tensor


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
