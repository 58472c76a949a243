"""The token loss that a configuration describes, put together from the parts in algorithms/."""

from __future__ import annotations

import torch
from torch import Tensor

from farthing.algorithms.correction import truncated_weights
from farthing.algorithms.divergence import k3
from farthing.algorithms.losses import SURROGATES
from farthing.algorithms.sequences import row_mean
from farthing.learner.api import Objective, TokenLoss, Tokens
from farthing.stages.config.grpo import GrpoConfig


def objective(config: GrpoConfig, update: int = 0) -> Objective:
    """The loss of the `update`-th update of a rollout, from 0: weight x surrogate + kl_coef x k3.

    Without importance weights the ratio is taken to the sampler. With them it is taken to the learner as it was before
    the first update, and the weight is that learner's ratio to the sampler, truncated.
    """
    level = config.correction(update)

    def token_loss(tokens: Tokens) -> TokenLoss:
        metrics = mismatch(tokens)
        old = tokens.rollout_logprobs
        if level is not None:
            # In the first update these weights are those from before it.
            old = tokens.old_logprobs if len(tokens.old_logprobs) else tokens.logprobs.detach()
        loss, clipped = surrogate(config, tokens, old)
        metrics["clip_ratio/region_mean"] = clipped.float()
        if level is not None:
            cap = config.importance_cap
            weights = truncated_weights(old, tokens.rollout_logprobs, tokens.rows, level, cap)
            loss = weights * loss
            metrics["importance/truncated"] = (weights >= cap).float()
        if config.kl_coef > 0:
            divergence = k3(tokens.logprobs, tokens.ref_logprobs)
            loss = loss + config.kl_coef * divergence
            metrics["kl"] = divergence.detach()
        return TokenLoss(loss, metrics)

    return token_loss


def surrogate(config: GrpoConfig, tokens: Tokens, old: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, whether the clip binds), both [M]."""
    new = tokens.logprobs
    if config.ratio_level == "sequence":
        # exp(mean log ratio): the ratio of whole sequences, normalised by length (GSPO, arXiv 2507.18071, equation 7).
        new, old = row_mean(new, tokens.rows), row_mean(old, tokens.rows)
    return SURROGATES[config.surrogate](new, old, tokens.advantages, config.clip_low, config.clip_high)


@torch.no_grad()
def mismatch(tokens: Tokens) -> dict[str, Tensor]:
    """How far the policy that learns is from the one that sampled: KL(sampler || learner) in nats per token, and the
    ratio, whichever way it is above 1; both [M]."""
    gap = tokens.logprobs - tokens.rollout_logprobs
    return {
        "mismatch/kl": k3(tokens.rollout_logprobs, tokens.logprobs),
        "mismatch/ratio_max": torch.exp(gap.abs()),
    }
