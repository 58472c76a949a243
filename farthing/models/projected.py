"""Projections of a training step: products with the published copy of a weight, whose gradient goes to the weight.

PyTorch's own way would cast every weight anew for each micro-batch and keep the cast one, and keep the input as well.
What norms and gates give is `Remade` from what they keep anyway: it is computed again in the backward pass.

Shapes: N tokens, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Remade:
    """How a tensor is computed again, to the last bit: `make(*sources)`."""

    make: Callable[..., Tensor]
    sources: tuple[Tensor, ...]


def remade(x: Tensor, make: Callable[..., Tensor], *sources: Tensor) -> Tensor:
    """`x`, which projections will not keep."""
    x.remade = Remade(make, tuple(source.detach() for source in sources))
    return x


def numbers_of(*parameters: Tensor | None) -> tuple[tuple[int, int], ...]:
    """Tells whether parameters still hold what they held: where they are, and how often they were changed there."""
    return tuple((x.data_ptr(), x._version) for x in parameters if x is not None)


def projected(
    x: Tensor, copy: tuple[Tensor, Tensor | None], weights: Sequence[Tensor], biases: Sequence[Tensor] = ()
) -> Tensor:
    """x W^T + b for x [..., I] -> [..., O]. `copy`: W [O, I] and b [O] in the dtype of x, which hold what `weights`
    and `biases`, one below the other, hold in their own dtype; these get the gradient."""
    out: Tensor = _Projected.apply(x, getattr(x, "remade", None), *copy, len(weights), *weights, *biases)
    return out


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        recipe: Remade | None,
        weight: Tensor,
        bias: Tensor | None,
        num_weights: int,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.make = recipe.make if recipe else None
        ctx.save_for_backward(weight, *(recipe.sources if recipe else (x,)))
        ctx.num_weights, ctx.sizes = num_weights, [len(part) for part in parameters[:num_weights]]
        ctx.dtypes = [part.dtype for part in parameters]
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, *sources = ctx.saved_tensors
        grad_NO = grads[0].flatten(0, -2)
        x = ctx.make(*sources) if ctx.make else sources[0]
        grad_x = grads[0] @ weight if ctx.needs_input_grad[0] else None
        parts = list((grad_NO.t() @ x.flatten(0, -2)).split(ctx.sizes))
        if len(ctx.dtypes) > ctx.num_weights:
            parts += grad_NO.sum(0).split(ctx.sizes)
        return grad_x, None, None, None, None, *(p.to(d) for p, d in zip(parts, ctx.dtypes, strict=True))
