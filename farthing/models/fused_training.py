"""What stands between the matrix products of a training step, compiled: forward and backward, in one pass each.

`native/training.cpp` has residual and norm, norm and rotation of the heads, the gate, and the head's softmax. Each
stands beside its plain twin, which calls it where `pays` says so: float32 masters computed in bfloat16, on a CPU.
Without a compiler, or with `FARTHING_FUSED=0`, the twins do everything.

Shapes: N tokens, C hidden_size, H query heads, K key heads, D head_dim, I intermediate_size, V vocab_size.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farthing.models.compiled import compiled
from farthing.models.projected import remade

SOURCE = Path(__file__).with_name("native") / "training.cpp"
BLOCK = 32
"""Rows whose part of a gain's gradient is summed at once; `native/training.cpp` has the same."""

_P, _N, _F, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_ARGUMENTS = {
    "norm": (_P, _P, _P, _P, _P, _P, _N, _N, _F, _INT),
    "norm_back": (_P, _P, _P, _P, _P, _P, _P, _P, _P, _N, _N, _INT),
    "turn": (_P, _P, _P, _P, _P, _P, _P, _P, _P, _N, _N, _N, _N, _F, _INT),
    "turn_back": (_P, _P, _P, _P, _P, _P, _P, _P, _P, _P, _P, _N, _N, _N, _N, _INT),
    "gate": (_P, _P, _N, _N, _INT),
    "gate_back": (_P, _P, _P, _N, _N, _INT),
    "softmax": (_P, _P, _P, _P, _N, _N, _F, _INT),
    "softmax_back": (_P, _P, _P, _P, _N, _N, _INT),
}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they are not to be had."""
    loaded = compiled(SOURCE)
    if loaded is not None:
        for name, arguments in _ARGUMENTS.items():
            getattr(loaded, name).argtypes = arguments
    return loaded


def pays(*coarse: Tensor, wide: tuple[Tensor, ...] = ()) -> bool:
    """Whether tensors of activations, `coarse`, and what is kept in float32, `wide`, are better worked on here."""
    return (
        all(x.dtype == torch.bfloat16 and x.device.type == "cpu" for x in coarse)
        and all(x.dtype == torch.float32 and x.device.type == "cpu" for x in wide)
        and library() is not None
    )


def add_norm(x: Tensor, change: Tensor | None, gain: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x + change, its RMSNorm times `gain` [C] in bfloat16) for float32 x [..., C] and bfloat16 `change`; without a
    change, x alone is normalised and stands for the sum. RMSNorm: arXiv 1910.07467, equation 4; its derivative:
    rmsnorm.py. Projections do not keep the norm."""
    x = x.contiguous()
    change = None if change is None else change.contiguous()
    total, out = _AddNorm.apply(x, change, gain, eps)
    sources = (x, gain) if change is None else (x, gain, change)

    def again(x: Tensor, gain: Tensor, change: Tensor | None = None) -> Tensor:
        return _normed(x, change, gain, eps, None, None)

    return x if change is None else total, remade(out, again, *sources)


class _AddNorm(torch.autograd.Function):
    """Kept for the backward pass are x and the change, which is half as wide as their sum."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, change: Tensor | None, gain: Tensor, eps: float
    ) -> tuple[Tensor | None, Tensor]:
        total = None if change is None else torch.empty_like(x)
        scales = x.new_empty(x.numel() // x.shape[-1])
        out = _normed(x, change, gain, eps, total, scales)
        ctx.save_for_backward(x, change, gain, scales)
        return total, out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, change, gain, scales = ctx.saved_tensors
        rows, size = len(scales), len(gain)
        grad_x = torch.empty_like(x)
        grad_change = None if change is None else torch.empty_like(change)
        partial = gain.new_empty(-(-rows // BLOCK), size)
        grad_total, grad = map(_contiguous, grads)
        _call(
            "norm_back", x, change, gain, scales, grad, grad_total, grad_x, grad_change, partial, rows, size
        )
        return grad_x, grad_change, partial.sum(0), None


def _normed(
    x: Tensor, change: Tensor | None, gain: Tensor, eps: float, total: Tensor | None, scales: Tensor | None
) -> Tensor:
    out = torch.empty_like(x, dtype=torch.bfloat16)
    _call("norm", x, change, gain, total, out, scales, x.numel() // x.shape[-1], x.shape[-1], eps)
    return out


class Turn(torch.autograd.Function):
    """Queries [N, H, D], keys and values [N, K, D] from heads `qkv` [N, (H + 2 K) D] that lie side by side: the first
    two normalised with `q_gain` and `k_gain` [D] (None: not at all), then turned in halves by tables [N, D/2]."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        q_gain: Tensor | None,
        k_gain: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        shape: tuple[int, int, int],
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        heads, keys, size = shape
        qkv, rows = qkv.contiguous(), len(qkv)
        q, k, v = (qkv.new_empty(rows, count, size) for count in (heads, keys, keys))
        scales = torch.empty(rows, heads + keys)
        _call("turn", qkv, q_gain, k_gain, cos, sin, q, k, v, scales, rows, heads, keys, size, eps)
        ctx.save_for_backward(qkv, q_gain, k_gain, cos, sin, scales)
        ctx.shape = shape
        return q, k, v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qkv, q_gain, k_gain, cos, sin, scales = ctx.saved_tensors
        (heads, keys, size), rows = ctx.shape, len(qkv)
        grad = torch.empty_like(qkv)
        partial = torch.empty(-(-rows // BLOCK), 2, size)
        own = [_contiguous(g) for g in grads]
        _call(
            "turn_back", qkv, q_gain, k_gain, cos, sin, scales, *own, grad, partial, rows, heads, keys, size
        )
        q_grad, k_grad = partial.sum(0) if q_gain is not None else (None, None)
        return grad, q_grad, k_grad, None, None, None, None


def gate(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for gate_up [..., 2 I], contiguous, the gates first: [..., I]."""
    size = gate_up.shape[-1] // 2
    out = gate_up.new_empty(*gate_up.shape[:-1], size)
    _call("gate", gate_up, out, out.numel() // size, size)
    return out


def gate_back(gate_up: Tensor, grad: Tensor) -> Tensor:
    """The gradient of `gate_up` from that of what the gate lets through."""
    out, size = torch.empty_like(gate_up), gate_up.shape[-1] // 2
    _call("gate_back", gate_up, grad.contiguous(), out, grad.numel() // size, size)
    return out


def softmax(
    logits: Tensor, targets: Tensor, logprobs: Tensor, entropies: Tensor | None, temperature: float
) -> Tensor:
    """Float32 logits [N, V] become the probabilities of the softmax at `temperature`, in place; written to `logprobs`
    [N] the targets' and to `entropies` [N], in nats, where asked for."""
    _call("softmax", logits, targets, logprobs, entropies, *logits.shape, temperature)
    return logits


def softmax_back(probabilities: Tensor, targets: Tensor, scales: Tensor) -> Tensor:
    """(onehot(target) - p) times `scales` [N] in bfloat16, [N, V]."""
    grad = torch.empty_like(probabilities, dtype=torch.bfloat16)
    _call("softmax_back", probabilities, targets, scales.contiguous(), grad, *grad.shape)
    return grad


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _call(name: str, *arguments: Tensor | int | float | None) -> None:
    given = [x.data_ptr() if isinstance(x, Tensor) else x for x in arguments]
    getattr(library(), name)(*given, torch.get_num_threads())
