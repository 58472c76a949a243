"""A bfloat16 weight in the layout oneDNN multiplies from, so that it is not rearranged at every product.

PyTorch's own `linear` rearranges the weight each time, which for the 16 to 256 rows of a decoding batch is a fifth to
a half of the product's time (`bench/engine.py`). The numbers are the same to the last bit.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


class Packed:
    """A weight [out, in], packed for products of any number of rows; it cannot be changed or read back."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x W^T + bias for x [..., in] in bfloat16."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, bias, "none", [], "")

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        return self


def packed(weight: Tensor) -> Packed | None:
    """The weight packed; None where that is not to be had: another dtype, device or processor."""
    suits = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.numel() > 0
    if not suits or not _has_packing():
        return None
    return Packed(weight)


@cache
def _has_packing() -> bool:
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
