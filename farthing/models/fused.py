"""What stands between the matrix products of decoding, compiled for this machine where a compiler is at hand.

A decoding step in plain PyTorch is some sixty small operations a layer, each a pass over memory and a few microseconds
of dispatch. `native/single.cpp` has four that do the same: residual and norm, norm and rotation, the gate, attention
over exact lengths with the write to the cache; and one that draws. `native/step.cpp` does a whole step of a dense
model in bfloat16, which `step.py` calls; `native/whole.cpp` multiplies numbers of 8 bits, which `whole.py` calls. They
are compiled once, in some ten seconds, into the user's cache.

Each of them stands beside its plain twin, and is used only where `pays` says so: on a CPU, without gradients, in
float32 or bfloat16. `FARTHING_FUSED=0` turns all of them off.

Shapes: B rows, T tokens, C hidden_size, H query heads, K key heads, D head_dim, V vocab_size.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from farthing.models.compiled import compiled

SOURCES = tuple(Path(__file__).with_name("native") / name for name in ("single.cpp", "step.cpp", "whole.cpp"))
HEAD_SIZES = frozenset({16, 32, 64, 80, 96, 128, 256})
"""Channels of a head that `native/attention.h` has a function for."""

LETTER = {torch.float32: "f", torch.bfloat16: "b"}
"""Dtypes that there are functions for, and what these end with."""
_P, _N, _F, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_ARGUMENTS = {
    "add_norm": (_P, _P, _P, _P, _P, _N, _N, _F, _INT),
    "norm_rotate": (_P, _N, _P, _P, _P, _P, _N, _P, _N, _N, _N, _N, _F, _INT),
    "gated": (_P, _P, _N, _N, _INT),
    "attend": (_P, _P, _P, _N, _N, _N, _P, _P, _P, _P, _N, _N, _N, _N, _N, _F, _INT),
    "draw": (_P, _P, _P, _P, _N, _N, _INT),
}
_VARIANTS = {"add_norm": ("_ff", "_fb", "_bb"), "norm_rotate": ("_ff", "_fb", "_bb"), "draw": ("",)}
_WITH_PAIRS = {
    "decode_pairs_f": (_P, _P, _INT),
    "decode_pairs_b": (_P, _P, _INT),
    "decode_whole_f": (_P, _P, _INT),
    "decode_whole_b": (_P, _P, _INT),
    "to_strips": (_P, _P, _N, _N, _INT),
    "product": (_P, _N, _P, _P, _N, _INT),
}
"""What is there only on processors with dot products of bfloat16 pairs."""
_WITH_WHOLE = {"whole_f": (_P, _N, _P, _P, _N, _INT), "whole_b": (_P, _N, _P, _P, _N, _INT)}
"""And what only on those with dot products of 8-bit numbers."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None without a compiler, where it fails, or with FARTHING_FUSED=0."""
    loaded = compiled(*SOURCES)
    if loaded is None:
        return None
    for name, arguments in _ARGUMENTS.items():
        for variant in _VARIANTS.get(name, ("_f", "_b")):
            getattr(loaded, name + variant).argtypes = arguments
    for name, arguments in (_WITH_PAIRS | _WITH_WHOLE).items():
        if hasattr(loaded, name):
            getattr(loaded, name).argtypes = arguments
    return loaded


def pays(tensor: Tensor, *dtypes: torch.dtype) -> bool:
    """Whether work on `tensor`, together with tensors of `dtypes`, is better done here than by PyTorch."""
    return (
        not torch.is_grad_enabled()
        and tensor.device.type == "cpu"
        and tensor.dtype in LETTER
        and all(dtype in LETTER for dtype in dtypes)
        and library() is not None
    )


def stream_pays(stream: Tensor, dtype: torch.dtype) -> bool:
    """The same for a residual stream and the dtype that a block computes in, never the wider of the two."""
    return pays(stream, dtype) and (stream.dtype == torch.float32 or dtype == torch.bfloat16)


def add_norm(
    x: Tensor, change: Tensor | None, gain: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(x + change in x's dtype, its RMSNorm with `gain` [C] as `dtype`), each [..., C]; without a change the sum is x,
    without a gain there is no norm and the sum stands for it. RMSNorm: arXiv 1910.07467, equation 4."""
    x = x.contiguous()
    change = None if change is None else change.contiguous()
    total = x if change is None else torch.empty_like(x)
    out = total if gain is None else torch.empty_like(x, dtype=dtype)
    call(
        f"add_norm_{LETTER[x.dtype]}{LETTER[dtype]}",
        x.data_ptr(),
        None if change is None else change.data_ptr(),
        None if gain is None else gain.data_ptr(),
        total.data_ptr(),
        None if gain is None else out.data_ptr(),
        x.numel() // x.shape[-1],
        x.shape[-1],
        eps,
    )
    return total, out


def norm_rotate(
    x: Tensor, queries: int, gains: tuple[Tensor, Tensor] | None, eps: float, cos: Tensor, sin: Tensor
) -> Tensor:
    """Heads x [B, T, H + K, D], the first `queries` of them normalised with gains[0] [D] and the others with gains[1]
    (None: not at all), then turned by tables [B or 1, T, D/2] in halves (arXiv 2104.09864, equation 34)."""
    rows, tokens, heads, size = x.shape
    out = torch.empty(x.shape, dtype=x.dtype)
    letter = LETTER[x.dtype if gains is None else gains[0].dtype]
    call(
        f"norm_rotate_{letter}{LETTER[x.dtype]}",
        x.data_ptr(),
        x.stride(1) if tokens > 1 else x.stride(0),
        None if gains is None else gains[0].data_ptr(),
        None if gains is None else gains[1].data_ptr(),
        cos.data_ptr(),
        sin.data_ptr(),
        cos.shape[0] * cos.shape[1],
        out.data_ptr(),
        rows * tokens,
        queries,
        heads,
        size,
        eps,
    )
    return out


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for gate_up [..., 2 I], the gates first: [..., I] (arXiv 2002.05202, section 2)."""
    gate_up = gate_up.contiguous()
    size = gate_up.shape[-1] // 2
    out = gate_up.new_empty(*gate_up.shape[:-1], size)
    call(f"gated_{LETTER[out.dtype]}", gate_up.data_ptr(), out.data_ptr(), out.numel() // size, size)
    return out


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: tuple[Tensor, Tensor],
    lengths: Tensor,
    scale: float,
) -> Tensor:
    """softmax(q k^T scale) v of one new token a row: queries [B, H, D], keys and values [B, K, D] -> [B, H, D].

    Row n's key and value are written to `slots` (two of [S, K, room, D], contiguous) at [n, :, lengths[n]], and its
    queries read what stands up to there. Rows beyond `lengths` are padding and read nothing: their result is 0.
    """
    rows, key_heads, size = len(lengths), keys.shape[1], keys.shape[2]
    out = torch.zeros(queries.shape, dtype=queries.dtype)
    call(
        f"attend_{LETTER[queries.dtype]}",
        queries.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        queries.stride(0),
        keys.stride(0),
        values.stride(0),
        slots[0].data_ptr(),
        slots[1].data_ptr(),
        lengths.data_ptr(),
        out.data_ptr(),
        rows,
        key_heads,
        queries.shape[1] // key_heads,
        size,
        slots[0].shape[2],
        scale,
    )
    return out


def draw(logits_BV: Tensor, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """(token ids int64 [B], their log-probabilities float32 [B]) by inverting the cumulative distribution of float32
    logits at float64 `uniform_B` in [0, 1)."""
    logits_BV = logits_BV.contiguous()
    tokens_B = torch.empty(len(logits_BV), dtype=torch.int64)
    logprobs_B = torch.empty(len(logits_BV), dtype=torch.float32)
    call(
        "draw",
        logits_BV.data_ptr(),
        uniform_B.data_ptr(),
        tokens_B.data_ptr(),
        logprobs_B.data_ptr(),
        *logits_BV.shape,
    )
    return tokens_B, logprobs_B


def has_pairs() -> bool:
    """Whether products and whole steps are compiled: `Strips` and `Step` need this."""
    return hasattr(library(), "product")


def has_whole() -> bool:
    """Whether products of 8-bit numbers are compiled: `WholeStrips` needs this."""
    return hasattr(library(), "whole_b")


def call(name: str, *arguments: int | float | None) -> None:
    """A compiled function, with the number of threads behind its other arguments."""
    getattr(library(), name)(*arguments, torch.get_num_threads())
