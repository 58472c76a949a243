"""Log-probabilities of given tokens without the logits of all: the head and its softmax, a chunk of tokens at a time.

Logits of a whole micro-batch, their softmax and its gradient would be the largest tensors of a training step: three
times tokens x vocabulary. Here a chunk of logits is made, read and dropped, and made again in the backward pass; what
is kept for it is the hidden states that exist anyway. Where tokens x vocabulary is no more than two chunks, as in small
vocabularies, the softmax is kept instead.

    log p(t) = z_t / T - logsumexp(z / T),   d log p(t) / dz = (onehot(t) - softmax(z / T)) / T,   z = W h

Shapes: M tokens, C hidden_size, V vocab_size, N tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models import fused_training
from farthing.models.arithmetic import CHUNK_LOGITS, CHUNK_TOKENS_LEAST

KEPT_CHUNKS = 2
"""Micro-batches whose logits are at most so many chunks keep the softmax for the backward pass."""


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
        chunks = list(_chunks(len(targets_M), len(weight_VC)))
        keeps = len(chunks) <= KEPT_CHUNKS and any(ctx.needs_input_grad)
        ctx.kept = []
        for chunk in chunks:
            logits_NV = _logits(hidden_MC[chunk], head_VC)
            into = logprobs_M[chunk], entropy_M[chunk] if entropy else None
            p_NV = _softmax(logits_NV, targets_M[chunk], temperature, *into)
            if keeps:
                ctx.kept.append(p_NV)
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
            # Let go one after the other.
            p_NV = ctx.kept.pop(0) if ctx.kept else None
            if p_NV is None:
                p_NV = _softmax(_logits(hidden_MC[chunk], head_VC), targets_M[chunk], ctx.temperature)
            scale_N = grads[0][chunk] / ctx.temperature
            grad_NV = _softmax_back(p_NV, targets_M[chunk], scale_N, hidden_MC.dtype)
            if grad_hidden_MC is not None:
                torch.mm(grad_NV, back_VC, out=grad_hidden_MC[chunk])
            if grad_weight_VC is not None:
                grad_weight_VC += grad_NV.t() @ hidden_MC[chunk]
        return grad_hidden_MC, grad_weight_VC, None, None, None, None


def _chunks(tokens: int, vocabulary: int) -> Iterator[slice]:
    size = max(CHUNK_LOGITS // vocabulary // 16 * 16, CHUNK_TOKENS_LEAST)
    return (slice(start, min(start + size, tokens)) for start in range(0, tokens, size))


def _logits(hidden_NC: Tensor, head_VC: Tensor) -> Tensor:
    """[N, V], float32 or wider."""
    logits_NV = F.linear(hidden_NC.to(head_VC.dtype), head_VC)
    return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))


def _softmax(
    logits_NV: Tensor,
    targets_N: Tensor,
    temperature: float,
    logprobs_N: Tensor | None = None,
    entropy_N: Tensor | None = None,
) -> Tensor:
    """The softmax of logits / temperature, which are overwritten; what it says of the targets goes to the others."""
    if fused_training.pays(wide=(logits_NV,)):
        logprobs_N = torch.empty(len(targets_N)) if logprobs_N is None else logprobs_N
        return fused_training.softmax(logits_NV, targets_N, logprobs_N, entropy_N, temperature)
    if temperature != 1.0:
        logits_NV = logits_NV.div_(temperature)
    log_NV = logits_NV.log_softmax(dim=-1)
    p_NV = log_NV.exp()
    if logprobs_N is not None:
        logprobs_N.copy_(log_NV.gather(-1, targets_N.unsqueeze(-1)).squeeze(-1))
    if entropy_N is not None:
        entropy_N.copy_(-(p_NV * log_NV).sum(dim=-1))
    return p_NV


def _softmax_back(p_NV: Tensor, targets_N: Tensor, scale_N: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient of the logits, (onehot - p) scale, as `dtype`; p is overwritten."""
    if dtype == torch.bfloat16 and fused_training.pays(wide=(p_NV, scale_N)):
        return fused_training.softmax_back(p_NV, targets_N, scale_N)
    scale_N1 = scale_N.unsqueeze(-1)
    return p_NV.mul_(-scale_N1).scatter_add_(-1, targets_N.unsqueeze(-1), scale_N1).to(dtype)
