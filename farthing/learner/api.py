"""What a learner does: one optimizer step on samples whose token weights were decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from farthing.data.sample import Sample


@dataclass(frozen=True)
class Tokens:
    """The trained tokens of a micro-batch, flat [M]: current log-probabilities (with gradient), the policy's entropy
    (without; empty where the learner does not compute it), and what the samples brought along. Streams that samples
    lack are empty. `rows` (int64) numbers the sample that a token belongs to; a sample is never split between
    micro-batches. For objectives over the whole vocabulary: `hidden`, the states [M, C] that the head reads (with
    gradient), and the `samples` of the micro-batch in their order."""

    logprobs: Tensor
    entropy: Tensor
    advantages: Tensor
    rollout_logprobs: Tensor
    ref_logprobs: Tensor
    old_logprobs: Tensor
    rows: Tensor
    hidden: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    samples: Sequence[Sample] = ()


@dataclass(frozen=True)
class TokenLoss:
    """Per-token losses [M] and any per-token quantities [M] worth averaging into the metrics."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


Objective = Callable[[Tokens], TokenLoss]


class Learner(Protocol):
    def step(self, samples: Sequence[Sample], objective: Objective, lr_scale: float) -> dict[str, float]:
        """Sum over trained tokens of weight x objective, backward, clip, update. Returns metrics: loss, grad_norm,
        entropy and the objective's own, averaged over trained tokens. Raises NumericsError if not finite."""
        ...
