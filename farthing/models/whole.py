"""Products of whole numbers of 8 bits, with the rounding of rows before them and the scaling of sums behind them.

    y = (round(x / s_x) round(W / s_w)^T) s_x s_w + b      s_x = max |x| / 127 per row of x, s_w the same per row of W

Each row of x is scaled by its own largest value, so that a row's result depends on nothing else in the batch; sums of
whole numbers are exact, so it does not depend on the order of summation either. Scales per output channel and per token
follow LLM.int8(), arXiv 2208.07339, section 2.1 (vector-wise), without its outlier columns.

Processors with dot products of 8-bit numbers take `WholeStrips`, one call for all of it (`native/whole.h`); others the
plain `WholeMatrix`. The two give the same, to the last bit. No gradients pass through them.

Shapes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farthing.models import fused
from farthing.models.packed import STRIP

LARGEST = 127.0
PIECE = 64
"""Inputs of a row that lie side by side, whatever the number of rows."""


class Whole(ctypes.Structure):
    """What `native/whole.h` calls by this name: where weights, starts of sums, scales and bias are, and their sizes."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "starts", "scales", "bias")),
        *((name, ctypes.c_int64) for name in ("inputs", "outputs")),
    )


class WholeStrips:
    """Whole numbers int8 [O, I], their scales and bias, float32 [O], in strips of 16 outputs, with zeros where the last
    strip or the last 64 inputs are not full."""

    def __init__(self, whole_OI: Tensor, scales_O: Tensor, bias_O: Tensor | None) -> None:
        self.outputs, self.inputs = whole_OI.shape
        missing = -self.outputs % STRIP
        padded = F.pad(whole_OI.contiguous(), (0, -self.inputs % PIECE, 0, missing))
        fours = padded.view(torch.int32).unflatten(0, (-1, STRIP)).transpose(1, 2)
        # The native side reads rows that are shifted by 128: from what that adds every sum begins.
        starts = -128 * padded.sum(dim=1, dtype=torch.int32)
        bias = None if bias_O is None else F.pad(bias_O, (0, missing))
        self.kept = (fours.contiguous(), starts, F.pad(scales_O, (0, missing)), bias)
        places = (None if tensor is None else tensor.data_ptr() for tensor in self.kept)
        self.told = Whole(*places, self.inputs, self.outputs)

    def __call__(self, x: Tensor) -> Tensor:
        """[..., I] in float32 or bfloat16 -> [..., O] in the dtype of x."""
        flat = x.detach().reshape(-1, self.inputs)
        if flat.stride(-1) != 1:
            flat = flat.contiguous()
        out = flat.new_empty(len(flat), self.outputs)
        fused.call(
            f"whole_{fused.LETTER[x.dtype]}",
            flat.data_ptr(),
            flat.stride(0),
            ctypes.addressof(self.told),
            out.data_ptr(),
            len(flat),
        )
        return out.view(*x.shape[:-1], self.outputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> WholeStrips:
        return self


class WholeMatrix:
    """The same in plain operations, wherever the tensors are; of two inputs at least, for of one `torch._int_mm` gives
    wrong sums."""

    def __init__(self, whole_OI: Tensor, scales_O: Tensor, bias_O: Tensor | None) -> None:
        # As the product reads it, [I, O]; laid out by row of that where it has many inputs: 16 rows take half as long.
        outputs, inputs = whole_OI.shape
        self.weight_IO = whole_OI.t().contiguous() if inputs > outputs else whole_OI.t()
        self.scales_O, self.bias_O = scales_O, bias_O

    def __call__(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in the dtype of x."""
        x_NI = x.detach().reshape(-1, x.shape[-1]).float()
        scales_N1 = largest(x_NI).unsqueeze(1) / LARGEST
        whole_NI = (x_NI / scales_N1).round().to(torch.int8)
        y_NO = torch._int_mm(whole_NI, self.weight_IO).float() * scales_N1 * self.scales_O
        if self.bias_O is not None:
            y_NO = y_NO + self.bias_O
        return y_NO.to(x.dtype).unflatten(0, x.shape[:-1])


class Int8Linear(nn.Module):
    """Stands in for a `Linear` or for several of one input; nothing in it is trained."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.product = rounded(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O] in the dtype of x."""
        return self.product(x)


def rounded(weight_OI: Tensor, bias_O: Tensor | None) -> WholeStrips | WholeMatrix:
    """A weight and its bias as whole numbers and scales, in the layout that this machine multiplies best."""
    weight_OI = weight_OI.detach().float()
    scales_O = largest(weight_OI) / LARGEST
    whole_OI = (weight_OI / scales_O.unsqueeze(1)).round().to(torch.int8)
    bias_O = None if bias_O is None else bias_O.detach().float()
    compiled = weight_OI.device.type == "cpu" and fused.has_whole()
    return (WholeStrips if compiled else WholeMatrix)(whole_OI, scales_O, bias_O)


def largest(x_NI: Tensor) -> Tensor:
    """max |x| of every row, float32 [N]; never zero."""
    return x_NI.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
