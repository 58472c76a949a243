"""Bfloat16 weights in the layout that they are multiplied from, so that they are not rearranged at every product.

PyTorch's own `linear` rearranges the weight each time, which for the 16 to 256 rows of a decoding batch is a fifth to
a half of the product's time (`bench/engine.py`). Processors with dot products of bfloat16 pairs and no tiles take
`Strips`, whose rows depend on nothing but themselves and which a whole compiled step can read; others oneDNN's layout.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from farthing.models import fused

STRIP = 16
"""Outputs of a weight that lie side by side."""


class Product(ctypes.Structure):
    """What `native/product.h` calls by this name: where strips and bias are, and their sizes."""

    _fields_ = (
        ("strips", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
    )


class Strips:
    """A weight [out, in] in strips of 16 outputs, for products of any number of rows: sums in float32 over the inputs
    in their order. It cannot be changed or read back."""

    def __init__(self, weight: Tensor) -> None:
        weight = weight.contiguous()
        self.outputs, self.inputs = weight.shape
        self.strips = torch.empty(weight.numel(), dtype=torch.bfloat16)
        fused.call("to_strips", weight.data_ptr(), self.strips.data_ptr(), self.inputs, self.outputs)

    def product(self, bias: Tensor | None) -> Product:
        """How compiled functions are told of it; both tensors have to be kept while that is used."""
        return Product(
            self.strips.data_ptr(), None if bias is None else bias.data_ptr(), self.inputs, self.outputs
        )

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x W^T + bias for x [..., in] in bfloat16, summed in float32 and rounded once."""
        flat = x.reshape(-1, self.inputs)
        if flat.stride(-1) != 1:
            flat = flat.contiguous()
        out = flat.new_empty(len(flat), self.outputs)
        told = self.product(bias)
        fused.call(
            "product", flat.data_ptr(), flat.stride(0), ctypes.addressof(told), out.data_ptr(), len(flat)
        )
        return out.view(*x.shape[:-1], self.outputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Strips:
        return self


class StripsLinear(nn.Module):
    """Stands in for a `Linear` or for several of one input, where no other copy of the weight is kept; nothing in it is
    trained."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.strips, self.bias = Strips(weight.detach()), None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out] in bfloat16."""
        return self.strips(x, self.bias)


class Packed:
    """A weight [out, in] in oneDNN's layout, for products of any number of rows; it cannot be changed or read back."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x W^T + bias for x [..., in] in bfloat16."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, bias, "none", [], "")

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        return self


def packed(weight: Tensor) -> Strips | Packed | None:
    """The weight packed; None where that is not to be had: another dtype, device or processor."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or weight.numel() == 0:
        return None
    if suits_strips(*weight.shape):
        return Strips(weight)
    return Packed(weight) if _has_packing() else None


def suits_strips(outputs: int, inputs: int) -> bool:
    """Whether a bfloat16 weight of that shape is best multiplied in strips on this machine."""
    return fused.has_pairs() and not _has_tiles() and not outputs % STRIP and not inputs % 2


@cache
def _has_tiles() -> bool:
    """Whether the processor multiplies whole tiles of bfloat16, which oneDNN knows how to use."""
    return bool(torch.cpu._is_amx_tile_supported())


@cache
def _has_packing() -> bool:
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
