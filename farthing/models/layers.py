"""The small layers every block is built from: a linear map that computes in its input's dtype, RMSNorm, SwiGLU.

Parameters keep their own (master) dtype; activations decide in what precision the work is done. A `Projection` has the
published compute copy of weights: made once per policy version, used by engine and learner alike, so that sampling,
scoring and learning read the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farthing.models import fused, fused_training
from farthing.models.packed import Packed, Strips, packed
from farthing.models.projected import numbers_of, projected
from farthing.models.rmsnorm import rms_norm
from farthing.models.swiglu import swiglu


class Linear(nn.Module):
    """y = x W^T + b, computed in the dtype of x; weight [out, in] and bias [out] stay in their own dtype."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.adapter: nn.Module | None = None
        self.projection = Projection(self)

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The weight [out, in] and its adapter as one, for those who cannot apply the two one after the other."""
        base = self.projection.matrix(dtype)
        return base if self.adapter is None else base + self.adapter.product().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x)

    def change(self, x: Tensor) -> Tensor:
        """What the adapter adds, zeros where there is none."""
        return x.new_zeros(*x.shape[:-1], len(self.weight)) if self.adapter is None else self.adapter(x)


@dataclass(frozen=True)
class Copy:
    """A weight [out, in] and bias [out] as they are computed with, made of parameters that held `numbers`. `packed`:
    the weight in a better layout, which has no backward; with it, `weight` is None where it would be a second copy."""

    dtype: torch.dtype
    weight: Tensor | None
    bias: Tensor | None
    packed: Strips | Packed | None
    numbers: tuple[tuple[int, int], ...]


class Projection:
    """A linear map, or several of one input as a single matrix product, with the compute copy that was published."""

    def __init__(self, *parts: Linear) -> None:
        self.parts, self.is_part = parts, False
        self.copy: Copy | None = None
        if len(parts) > 1:
            for part in parts:
                part.projection.is_part = True

    @property
    def weights(self) -> list[Tensor]:
        """What is joined, in order."""
        return [part.weight for part in self.parts]

    @property
    def biases(self) -> list[Tensor]:
        """The same of the biases; empty where there are none."""
        return [part.bias for part in self.parts if part.bias is not None]

    @property
    def learns(self) -> bool:
        """Whether any of them is trained."""
        return any(parameter.requires_grad for parameter in self.weights + self.biases)

    @property
    def is_adapted(self) -> bool:
        """Whether any of them has an adapter."""
        return any(part.adapter is not None for part in self.parts)

    def joined(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Weight [out, in] and bias [out], through which gradients pass."""
        weights, biases = self.weights, self.biases
        if len(weights) == 1:
            return weights[0].to(dtype), biases[0].to(dtype) if biases else None
        return torch.cat(weights).to(dtype), torch.cat(biases).to(dtype) if biases else None

    def publish(self, dtype: torch.dtype) -> None:
        """Make the compute copy; that of frozen weights is still good. Weights in the compute dtype are not doubled,
        and who is multiplied with others needs no copy of its own."""
        own = self.parts[0].weight.dtype
        is_good = self.copy is not None and self.copy.dtype == dtype and not self.learns
        if self.is_part or is_good:
            return
        self.copy = None
        if len(self.parts) == 1 and own == dtype:
            return
        with torch.no_grad():
            weight, bias = self.joined(dtype)
        better = packed(weight)
        plain = weight if better is None or own != dtype else None
        self.copy = Copy(dtype, plain, bias, better, numbers_of(*self.weights, *self.biases))

    def unpack(self) -> None:
        """Let go of the layout that only products without gradients read, of weights for which it will be made anew."""
        if self.copy is not None and self.copy.weight is not None and self.learns:
            self.copy = replace(self.copy, packed=None)

    def usable(self, dtype: torch.dtype) -> Copy | None:
        """The copy, where the work can be done with it: what passes gradients needs the plain weight, and what learns
        one that holds the numbers of now."""
        copy = self.copy if self.copy is not None and self.copy.dtype == dtype else None
        if copy is None or not torch.is_grad_enabled():
            return copy
        is_current = not self.learns or copy.numbers == numbers_of(*self.weights, *self.biases)
        return copy if copy.weight is not None and is_current else None

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The weight [out, in] in the dtype the work is done in; gradients pass through it."""
        copy = self.usable(dtype)
        learns = torch.is_grad_enabled() and self.learns
        return self.joined(dtype)[0] if copy is None or copy.weight is None or learns else copy.weight

    def __call__(self, x: Tensor) -> Tensor:
        out = self._product(x)
        if not self.is_adapted:
            return out
        changes = [part.change(x) for part in self.parts]
        return out + (changes[0] if len(changes) == 1 else torch.cat(changes, dim=-1))

    def _product(self, x: Tensor) -> Tensor:
        copy = self.usable(x.dtype)
        if copy is None:
            return F.linear(x, *self.joined(x.dtype))
        if copy.packed is not None and not torch.is_grad_enabled():
            return copy.packed(x, copy.bias)
        assert copy.weight is not None
        if torch.is_grad_enabled() and self.learns:
            return projected(x, (copy.weight, copy.bias), self.weights, self.biases)
        return F.linear(x, copy.weight, copy.bias)


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
            return fused_training.add_norm(x, None, self.weight, self.eps)[1]
        return rms_norm(x, self.weight, self.eps, dtype)

    def after(self, x: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """(x + change, its norm in the dtype of `change`), in one pass over memory where that is to be had."""
        if x.dtype == self.weight.dtype and fused.stream_pays(x, change.dtype):
            return fused.add_norm(x, change, self.weight, self.eps, change.dtype)
        if fused_training.pays(change, wide=(x, self.weight)):
            return fused_training.add_norm(x, change, self.weight, self.eps)
        x = x + change
        return x, rms_norm(x, self.weight, self.eps, change.dtype)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)). Source: GLU Variants, arXiv 2002.05202, section 2."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden_size, intermediate_size)
        self.up_proj = Linear(hidden_size, intermediate_size)
        self.down_proj = Linear(intermediate_size, hidden_size)
        self.gate_up = Projection(self.gate_proj, self.up_proj)

    def forward(self, x: Tensor) -> Tensor:
        gate_up = self.gate_up(x)
        if fused.pays(gate_up):
            return self.down_proj(fused.gated(gate_up))
        return self.down_proj(swiglu(gate_up))
