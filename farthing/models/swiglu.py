"""SwiGLU's gate with its backward written out: nothing is kept but its input, and no pass joins two gradients.
Compiled, what it lets through is not kept by projections either.

y = silu(g) u,   du = dy silu(g),   dg = dy u silu'(g)        (GLU Variants, arXiv 2002.05202, section 2)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models import fused_training
from farthing.models.projected import remade


def swiglu(gate_up: Tensor) -> Tensor:
    """[..., 2 I], the gate in front, -> [..., I] in the same dtype."""
    out: Tensor = _SwiGLU.apply(gate_up)
    return remade(out, fused_training.gate, gate_up) if _is_compiled(gate_up) else out


def _is_compiled(*tensors: Tensor) -> bool:
    return tensors[0].is_contiguous() and fused_training.pays(*tensors)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        if _is_compiled(gate_up):
            return fused_training.gate(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        gate_up = ctx.saved_tensors[0]
        if _is_compiled(gate_up, grads[0]):
            return fused_training.gate_back(gate_up, grads[0])
        gate, up = gate_up.chunk(2, dim=-1)
        grad = torch.empty_like(gate_up)
        grad_gate, grad_up = grad.chunk(2, dim=-1)
        torch.mul(grads[0], F.silu(gate), out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grads[0] * up, gate, grad_input=grad_gate)
        return grad
