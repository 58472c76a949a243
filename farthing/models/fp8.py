"""Block-scaled 8-bit weights, as DeepSeek-V3 is released: e4m3 numbers and one float32 scale per block.

weight = stored * scale_inv of its block; `<name>_scale_inv` has ceil(rows / block rows) x ceil(columns / block columns)
entries and may stand in another file (DeepSeek-V3, README_WEIGHTS.md).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

SUFFIX = "_scale_inv"
BLOCK = (128, 128)
# The largest finite e4m3 number, and the least maximum a block is scaled by (DeepSeek-V3, inference/kernel.py).
LARGEST = 448.0
LEAST_MAXIMUM = 1e-4
# What is stored in 8 bits: projections. Embeddings, head, norms, routers and MTP's own projection are not.
QUANTISED = re.compile(
    r"\.(self_attn\.\w+_proj(_with_mqa)?|mlp\.(experts\.\d+\.|shared_experts\.)?(gate|up|down)_proj)\.weight$"
)


def scale_shape(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, int]:
    """Shape of the scales of a weight [rows, columns]."""
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def _columns(scale_row: Tensor, width: int, columns: int) -> Tensor:
    """One row of scales, each repeated over the `width` columns of its block."""
    return scale_row.repeat_interleave(width)[:columns]


def dequantise_into(
    target: Tensor, stored: Tensor, scale_inv: Tensor, block: tuple[int, int] = BLOCK
) -> None:
    """Fill `target` [rows, columns], any float dtype, from e4m3 numbers; one row of blocks takes memory at a time."""
    for index in range(scale_inv.shape[0]):
        rows = slice(index * block[0], (index + 1) * block[0])
        target[rows] = stored[rows].float() * _columns(scale_inv[index].float(), block[1], stored.shape[1])


def quantise(
    weight: Tensor, block: tuple[int, int] = BLOCK, known: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(e4m3 numbers, float32 scales) of a weight [rows, columns].

    `known`: scales the weight had before; they are kept if they still reproduce it exactly, so that a weight that was
    read and not changed is written back bit by bit.
    """
    if known is not None:
        stored = _divide(weight, known.float(), block)
        again = torch.empty_like(weight)
        dequantise_into(again, stored, known, block)
        if torch.equal(again, weight):
            return stored, known
    scale = _fresh_scales(weight, block)
    return _divide(weight, scale, block), scale


def _fresh_scales(weight: Tensor, block: tuple[int, int]) -> Tensor:
    rows, columns = scale_shape(tuple(weight.shape), block)
    scale = torch.empty(rows, columns, dtype=torch.float32)
    for index in range(rows):
        highest = weight[index * block[0] : (index + 1) * block[0]].float().abs().amax(dim=0)
        padded = torch.nn.functional.pad(highest, (0, columns * block[1] - weight.shape[1]))
        scale[index] = padded.unflatten(0, (columns, block[1])).amax(dim=1).clamp(min=LEAST_MAXIMUM) / LARGEST
    return scale


def _divide(weight: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    stored = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
    for index in range(scale.shape[0]):
        rows = slice(index * block[0], (index + 1) * block[0])
        quotient = weight[rows].float() / _columns(scale[index], block[1], weight.shape[1])
        stored[rows] = quotient.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return stored
