"""The small layers every block is built from: a linear map that computes in its input's dtype, RMSNorm, SwiGLU.

Parameters keep their own (master) dtype; activations decide in what precision the work is done. `Linear.view` is the
published compute copy of a weight: made once per policy version, used by engine and learner alike when gradients are
not needed, so that sampling and scoring read the same numbers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farthing.models import fused, fused_training
from farthing.models.packed import Packed, Strips, packed
from farthing.models.rmsnorm import rms_norm
from farthing.models.swiglu import swiglu


class Linear(nn.Module):
    """y = x W^T + b, computed in the dtype of x; weight [out, in] and bias [out] stay in their own dtype."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.view: Tensor | None = None
        self.packed: Strips | Packed | None = None
        self.adapter: nn.Module | None = None
        self.is_joined = False

    def publish(self, dtype: torch.dtype) -> None:
        """Make the compute copy; that of a frozen weight is still good."""
        if self.weight.requires_grad or self.view is None or self.view.dtype != dtype:
            self.view = None if dtype == self.weight.dtype else self.weight.detach().to(dtype)
            # A copy that is made anyway is made in the better layout too; weights in the compute dtype are not doubled,
            # nor those that are multiplied with others as one.
            self.packed = None if self.view is None or self.is_joined else packed(self.view)

    def base(self, dtype: torch.dtype) -> Tensor:
        """The weight [out, in] in the dtype the work is done in, without its adapter."""
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if self.view is None or learns or self.view.dtype != dtype:
            return self.weight.to(dtype)
        return self.view

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The same with its adapter, for those who cannot apply the two one after the other."""
        return (
            self.base(dtype) if self.adapter is None else self.base(dtype) + self.adapter.product().to(dtype)
        )

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.packed is not None and not torch.is_grad_enabled() and x.dtype == torch.bfloat16:
            out = self.packed(x, bias)
        else:
            out = F.linear(x, self.base(x.dtype), bias)
        return out if self.adapter is None else out + self.adapter(x)

    def change(self, x: Tensor) -> Tensor:
        """What the adapter adds, zeros where there is none."""
        return x.new_zeros(*x.shape[:-1], len(self.weight)) if self.adapter is None else self.adapter(x)


def residual(x: Tensor, change: Tensor) -> Tensor:
    """x + change, in x's dtype."""
    if fused.stream_pays(x, change.dtype):
        return fused.add_norm(x, change, None, 0.0, change.dtype)[0]
    return x + change


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32 or wider; the result takes `dtype` or x's own.

    Source: Root Mean Square Layer Normalization, arXiv 1910.07467, equation 4.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or x.dtype
        if x.dtype == self.weight.dtype and fused.stream_pays(x, dtype):
            return fused.add_norm(x, None, self.weight, self.eps, dtype)[1]
        if dtype == torch.bfloat16 and fused_training.pays(wide=(x, self.weight)):
            out: Tensor = fused_training.AddNorm.apply(x, None, self.weight, self.eps)
            return out
        return rms_norm(x, self.weight, self.eps, dtype)

    def after(self, x: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """(x + change, its norm in the dtype of `change`), in one pass over memory where that is to be had."""
        if x.dtype == self.weight.dtype and fused.stream_pays(x, change.dtype):
            return fused.add_norm(x, change, self.weight, self.eps, change.dtype)
        if fused_training.pays(change, wide=(x, self.weight)):
            total, out = fused_training.AddNorm.apply(x, change, self.weight, self.eps)
            return total, out
        x = x + change
        return x, rms_norm(x, self.weight, self.eps, change.dtype)


class FusedLinears:
    """Several linear maps of one input as a single matrix product; the joined weight is cached while published."""

    def __init__(self, *parts: Linear) -> None:
        self.parts = parts
        for part in parts:
            part.is_joined = True
        self.view: tuple[Tensor | Strips | Packed, Tensor | None] | None = None
        self.dtype: torch.dtype | None = None

    @property
    def learns(self) -> bool:
        """Whether any of them is trained."""
        return any(
            parameter.requires_grad for part in self.parts for parameter in part.parameters(recurse=False)
        )

    def joined(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        weight = torch.cat([part.weight for part in self.parts]).to(dtype)
        if self.parts[0].bias is None:
            return weight, None
        return weight, torch.cat([part.bias for part in self.parts]).to(dtype)

    def publish(self, dtype: torch.dtype) -> None:
        """Make the compute copy; that of frozen weights is still good."""
        if self.learns or self.view is None or self.dtype != dtype:
            with torch.no_grad():
                weight, bias = self.joined(dtype)
            self.view, self.dtype = (packed(weight) or weight, bias), dtype

    def current(self, dtype: torch.dtype) -> tuple[Tensor | Strips | Packed, Tensor | None]:
        """The compute copy, made anew where it is trained, or where gradients pass through and it is packed: packed
        weights have no backward."""
        if self.view is None or self.dtype != dtype:
            return self.joined(dtype)
        if torch.is_grad_enabled() and (self.learns or not isinstance(self.view[0], Tensor)):
            return self.joined(dtype)
        return self.view

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self.current(x.dtype)
        out = F.linear(x, weight, bias) if isinstance(weight, Tensor) else weight(x, bias)
        if all(part.adapter is None for part in self.parts):
            return out
        return out + torch.cat([part.change(x) for part in self.parts], dim=-1)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)). Source: GLU Variants, arXiv 2002.05202, section 2."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden_size, intermediate_size)
        self.up_proj = Linear(hidden_size, intermediate_size)
        self.down_proj = Linear(intermediate_size, hidden_size)
        self.gate_up = FusedLinears(self.gate_proj, self.up_proj)

    def forward(self, x: Tensor) -> Tensor:
        gate_up = self.gate_up(x)
        if fused.pays(gate_up):
            return self.down_proj(fused.gated(gate_up))
        return self.down_proj(swiglu(gate_up))
