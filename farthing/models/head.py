"""Log-probabilities of given tokens without the logits of all: the head and its softmax, a chunk of tokens at a time.

Logits of a whole micro-batch, their softmax and its gradient would be the largest tensors of a training step: three
times tokens x vocabulary. Here a chunk of logits is made, read and dropped, and made again in the backward pass; what
is kept for it is the hidden states that exist anyway.

    log p(t) = z_t / T - logsumexp(z / T),   d log p(t) / dz = (onehot(t) - softmax(z / T)) / T,   z = W h

Shapes: M tokens, C hidden_size, V vocab_size, N tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models.arithmetic import CHUNK_LOGITS, CHUNK_TOKENS_LEAST


def token_logprobs(
    hidden_MC: Tensor,
    weight_VC: Tensor,
    targets_M: Tensor,
    *,
    dtype: torch.dtype,
    temperature: float = 1.0,
    entropy: bool = False,
) -> tuple[Tensor, Tensor]:
    """(log-probability of each target [M], entropy in nats [M] or [0] where it is not asked for), in float32 or wider.

    Of the softmax of W h / temperature. Logits are computed in `dtype`, the products of the backward pass in that of
    `hidden_MC`. The entropy carries no gradient.
    """
    logprobs_M, entropy_M = _TokenLogprobs.apply(hidden_MC, weight_VC, targets_M, dtype, temperature, entropy)
    return logprobs_M, entropy_M


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_MC: Tensor,
        weight_VC: Tensor,
        targets_M: Tensor,
        dtype: torch.dtype,
        temperature: float,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden_MC, weight_VC, targets_M)
        ctx.dtype, ctx.temperature = dtype, temperature
        wide = torch.promote_types(dtype, torch.float32)
        logprobs_M = hidden_MC.new_empty(len(targets_M), dtype=wide)
        entropy_M = torch.empty_like(logprobs_M if entropy else logprobs_M[:0])
        head_VC = weight_VC.to(dtype)
        for chunk in _chunks(len(targets_M), len(weight_VC)):
            log_NV = _scaled_logits(hidden_MC[chunk], head_VC, temperature).log_softmax(dim=-1)
            logprobs_M[chunk] = log_NV.gather(-1, targets_M[chunk].unsqueeze(-1)).squeeze(-1)
            if entropy:
                entropy_M[chunk] = -log_NV.exp().mul_(log_NV).sum(dim=-1)
        ctx.mark_non_differentiable(entropy_M)
        return logprobs_M, entropy_M

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MC, weight_VC, targets_M = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        head_VC, back_VC = weight_VC.to(ctx.dtype), weight_VC.to(hidden_MC.dtype)
        grad_hidden_MC = torch.empty_like(hidden_MC) if needs_hidden else None
        grad_weight_VC = torch.zeros_like(weight_VC) if needs_weight else None
        for chunk in _chunks(len(targets_M), len(weight_VC)):
            scale_N1 = (grads[0][chunk] / ctx.temperature).unsqueeze(-1)
            grad_NV = _scaled_logits(hidden_MC[chunk], head_VC, ctx.temperature).softmax(dim=-1)
            grad_NV.mul_(-scale_N1).scatter_add_(-1, targets_M[chunk].unsqueeze(-1), scale_N1)
            grad_NV = grad_NV.to(hidden_MC.dtype)
            if grad_hidden_MC is not None:
                torch.mm(grad_NV, back_VC, out=grad_hidden_MC[chunk])
            if grad_weight_VC is not None:
                grad_weight_VC += grad_NV.t() @ hidden_MC[chunk]
        return grad_hidden_MC, grad_weight_VC, None, None, None, None


def _chunks(tokens: int, vocabulary: int) -> Iterator[slice]:
    size = max(CHUNK_LOGITS // vocabulary // 16 * 16, CHUNK_TOKENS_LEAST)
    return (slice(start, min(start + size, tokens)) for start in range(0, tokens, size))


def _scaled_logits(hidden_NC: Tensor, head_VC: Tensor, temperature: float) -> Tensor:
    """Logits / temperature [N, V], float32 or wider."""
    logits_NV = F.linear(hidden_NC.to(head_VC.dtype), head_VC)
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return logits_NV if temperature == 1.0 else logits_NV.div_(temperature)
