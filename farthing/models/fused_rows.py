"""Attention of a micro-batch's rows, compiled: each row reads itself and the prompt it continues, exactly.

`native/rows.cpp` needs a processor with products of bfloat16 pairs. Beside it stands the plain twin, rectangles of rows
as batched products (`short_rows.py`), for which every shape of a rectangle costs kernels of its own.

Shapes: R rows, N flat tokens, H query heads, K key heads, D channels.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farthing.models.compiled import compiled
from farthing.models.short_rows import LONGEST_ROW

SOURCE = Path(__file__).with_name("native") / "rows.cpp"
TILE, CHANNELS = 8, 32
"""What the length of a row and the channels of a head must be multiples of."""

_P, _N, _F, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SHAPE = (_P, _N, _N, _N, _N)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they are not to be had."""
    loaded = compiled(SOURCE)
    if loaded is not None:
        loaded.rows.argtypes = (*_SHAPE, *(_P,) * 4, _F, _INT)
        loaded.rows_back.argtypes = (*_SHAPE, *(_P,) * 7, _F, _INT)
    return loaded


def pays(queries: Tensor, keys: Tensor, values: Tensor, longest: int) -> bool:
    """Whether flat queries [N, H, D], keys and values [N, K, D] of rows that read at most `longest` keys are better
    served here."""
    return (
        queries.dtype == torch.bfloat16
        and queries.device.type == "cpu"
        and keys.shape == values.shape
        and keys.shape[-1] % CHANNELS == 0
        and longest <= LONGEST_ROW
        and library() is not None
    )


def attend_rows(queries: Tensor, keys: Tensor, values: Tensor, rows: Tensor, scale: float) -> Tensor:
    """queries [N, H, D], keys and values [N, K, D] -> [N, H, D], zeros where no row lies.

    `rows` int64 [R, 4], one behind the other from the first place on: where a row starts, its tokens (a multiple of
    TILE), the row that is its prompt or -1, and how many of that one's tokens it continues. A token sees those and its
    own row up to itself: scaled dot-product attention (arXiv 1706.03762, equation 1), query head h reading key head
    h // (H / K).
    """
    out: Tensor = _Rows.apply(queries, keys, values, rows, scale)
    return out


class _Rows(torch.autograd.Function):
    """Kept for the backward pass are the inputs alone: probabilities are more numbers than all else of a token."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, scale: float) -> Tensor:
        loaded, shape = _library(), (rows.data_ptr(), len(rows), q.shape[1], *k.shape[1:])
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = _made_for(q, rows)
        pointers = [x.data_ptr() for x in (q, k, v, out)]
        loaded.rows(*shape, *pointers, scale, torch.get_num_threads())
        ctx.save_for_backward(q, k, v, rows)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, rows = ctx.saved_tensors
        grad = grads[0].contiguous()
        made = [_made_for(x, rows) for x in (q, k, v)]
        pointers = [x.data_ptr() for x in (q, k, v, grad, *made)]
        shape = (rows.data_ptr(), len(rows), q.shape[1], *k.shape[1:])
        _library().rows_back(*shape, *pointers, ctx.scale, torch.get_num_threads())
        return *made, None, None


def _made_for(like: Tensor, rows: Tensor) -> Tensor:
    """Room for what is written of every row, zeros behind the last."""
    made = torch.empty_like(like)
    made[int(rows[-1, :2].sum()) :] = 0
    return made


def _library() -> ctypes.CDLL:
    loaded = library()
    assert loaded is not None
    return loaded
