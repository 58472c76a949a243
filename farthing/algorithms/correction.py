"""Off-policy correction: tokens drawn by other weights than those that learn from them. M = tokens, flat."""

from __future__ import annotations

import torch
from torch import Tensor

from farthing.algorithms.sequences import row_sum


@torch.no_grad()
def truncated_weights(
    old_logprobs_M: Tensor, rollout_logprobs_M: Tensor, rows_M: Tensor, level: str, cap: float
) -> Tensor:
    """min(pi_old / pi_rollout, cap), [M], a constant: truncated importance sampling.

    `level` "token": the ratio of the token; "sequence": the product over its sequence. Source: Ionides, Truncated
    Importance Sampling (2008); for samplers that differ from their learner Yao et al., "Your efficient RL framework
    secretly brings you off-policy RL training" (2025); as the outer weight of a clipped ratio, decoupled PPO (Hilton
    et al., arXiv 2110.00641, equation 4).
    """
    log_ratio_M = old_logprobs_M - rollout_logprobs_M
    if level == "sequence":
        log_ratio_M = row_sum(log_ratio_M, rows_M)
    return torch.exp(log_ratio_M).clamp(max=cap)
