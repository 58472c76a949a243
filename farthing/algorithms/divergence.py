"""Estimators of the divergence between two policies from samples of one. M = tokens, flat."""

from __future__ import annotations

import torch
from torch import Tensor


def k3(logprobs_M: Tensor, ref_logprobs_M: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = log ref - log new, [M]: never negative, unbiased for KL(new || ref) on samples of new.

    Source: J. Schulman, Approximating KL divergence (2020), estimator k3; used by GRPO (arXiv 2402.03300, equation 4).
    """
    difference_M = ref_logprobs_M - logprobs_M
    return torch.exp(difference_M) - difference_M - 1.0
