"""RMSNorm with its backward written out: half the passes over memory that automatic differentiation makes.

y = x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467, equation 4). With r = 1 / sqrt(...) and
n = x r:  dx = r (g - n mean(g n)), where g = dy * weight, and dweight = the sum of dy * n.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """`x` [..., D] normalised over D in float32 (float64 stays), times `weight` (any shape that broadcasts to the
    last axes of x), as `dtype`."""
    out: Tensor = _RMSNorm.apply(x, weight, eps, dtype)
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = torch.rsqrt(length.square().div_(wide.shape[-1]).add_(eps))
        ctx.save_for_backward(x, weight, scale)
        out = torch.empty_like(x, dtype=dtype)
        return torch.mul(wide * scale, weight.to(wide.dtype), out=out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        wide = x if x.dtype == torch.float64 else x.float()
        normed, grad = wide * scale, grads[0].to(wide.dtype)
        weighted = grad * weight.to(wide.dtype)
        share = (weighted * normed).mean(dim=-1, keepdim=True)
        grad_weight = (grad * normed).sum_to_size(weight.shape).to(weight.dtype)
        grad_x = weighted.addcmul_(normed, share, value=-1.0).mul_(scale)
        return grad_x.to(x.dtype), grad_weight, None, None
