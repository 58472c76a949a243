"""A whole decoding step in one call: what `Decoder.hidden` and `Decoder.logits` compute for one new token a row, and
the draw from them, for dense models that compute in bfloat16, on processors that `native/step.cpp` is written for.

The numbers are those of the plain operations up to the order in which a product is summed, and every row's depend on
that row alone. `Step.of` is None for whatever is not a plain dense model: experts, latents, adapters, 8 bits.
The decoder makes its step whenever it is published, so nothing here can name its class: `model` is a `Decoder`.

Shapes: B rows, V vocab_size, L layers, S slots, K key heads, D head_dim.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farthing.models import fused
from farthing.models.attention import Attention
from farthing.models.layers import MLP, FusedLinears, Linear
from farthing.models.packed import STRIP, Product, Strips
from farthing.models.rope import rotary_tables

_P, _N, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _P) for name in ("input_gain", "post_gain", "q_gain", "k_gain")),
        *((name, Product) for name in ("qkv", "out", "gate_up", "down")),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, _P) for name in ("layers", "embedding", "gain", "head")),
        *(
            (name, _N)
            for name in ("num_layers", "hidden", "queries", "keys", "size", "intermediate", "vocabulary")
        ),
        *((name, _F) for name in ("eps", "scale")),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        *((name, _P) for name in ("tokens", "lengths", "order", "donors", "shared")),
        *((name, _P) for name in ("cos", "sin", "keys", "values")),
        *((name, _N) for name in ("rows", "room", "layer_stride")),
        *((name, _P) for name in ("logits", "uniform", "drawn", "logprobs")),
    )


@dataclass(frozen=True)
class Alike:
    """Which rows have the same beginning in their places, so that it need be read from memory only once. int64 [B]
    each: `order`, rows of a group one after the other; `donors`, the row whose keys and values are read in place of row
    n's own; `shared`, how many of them, a multiple of 16."""

    order: np.ndarray
    donors: np.ndarray
    shared: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray, shared: np.ndarray) -> Alike:
        """From the group of each row, int64 [B], all of which agree about `shared` tokens with everyone in it."""
        order = np.argsort(groups, kind="stable")
        is_first = np.diff(groups[order], prepend=-1) != 0
        donors = np.empty_like(order)
        donors[order] = order[is_first][is_first.cumsum() - 1]
        return cls(order, donors, shared)


@dataclass(frozen=True)
class Rows:
    """What decodes: int64 `tokens` [B] that stand behind int64 `lengths` [B] others. Row n's keys and values are in
    place n of `keys` and `values` [L, S, K, room, D] in bfloat16, where the new ones are written."""

    tokens: np.ndarray
    lengths: np.ndarray
    alike: Alike
    keys: Tensor
    values: Tensor


class Step:
    """The compiled step of one model as it was published; another has to be made after every update."""

    def __init__(self, model: Any, layers: list[_Layer]) -> None:
        config = model.config
        self._inv_freq, self._table_factor = model.inv_freq, model.table_factor
        self._cos = self._sin = torch.empty(0, config.head_dim // 2, dtype=torch.bfloat16)
        self._kept = model.model.embed_tokens.weight, model.model.norm.weight, model.head_weight
        self._layers = (_Layer * len(layers))(*layers)
        self._model = _Model(
            ctypes.addressof(self._layers),
            *(weight.data_ptr() for weight in self._kept),
            len(layers),
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.intermediate_size,
            config.vocab_size,
            config.rms_norm_eps,
            config.head_dim**-0.5,
        )

    @classmethod
    def of(cls, model: Any) -> Step | None:
        """The step of a model whose compute view has just been made; None where the plain operations have to do."""
        wide = (model.model.embed_tokens.weight, model.model.norm.weight, model.head_weight)
        is_wide = all(weight.dtype == torch.float32 and weight.is_contiguous() for weight in wide)
        has_other_head = model.head is not None or model.head_dtype not in (None, torch.float32)
        if model.compute_dtype != torch.bfloat16 or not is_wide or has_other_head:
            return None
        if wide[0].device.type != "cpu" or model.config.head_dim not in fused.HEAD_SIZES:
            return None
        layers = [_layer(block) for block in model.model.layers]
        known = [layer for layer in layers if layer is not None]
        return cls(model, known) if len(known) == len(layers) else None

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copied model has tensors of its own; until it is published the plain operations have to do."""

    def logits(self, rows: Rows) -> Tensor:
        """Logits of the next tokens, float32 [B, V]."""
        return self._run(rows)

    def draw(self, rows: Rows, uniform_B: np.ndarray) -> tuple[Tensor, Tensor]:
        """(the next tokens int64 [B], their log-probabilities float32 [B]), drawn from the model's own distribution as
        `fused.draw` does."""
        tokens_B, logprobs_B = torch.empty(len(uniform_B), dtype=torch.int64), torch.empty(len(uniform_B))
        self._run(rows, uniform_B.ctypes.data, tokens_B.data_ptr(), logprobs_B.data_ptr())
        return tokens_B, logprobs_B

    def _run(self, rows: Rows, *draw: int) -> Tensor:
        room = rows.keys.shape[3]
        if len(self._cos) < room:
            places = torch.arange(room)
            self._cos, self._sin = rotary_tables(self._inv_freq, places, torch.bfloat16, self._table_factor)
        alike, logits_BV = rows.alike, torch.empty(len(rows.tokens), self._model.vocabulary)
        columns = (rows.tokens, rows.lengths, alike.order, alike.donors, alike.shared)
        tensors = (self._cos, self._sin, rows.keys, rows.values)
        batch = _Batch(
            *(column.ctypes.data for column in columns),
            *(tensor.data_ptr() for tensor in tensors),
            len(rows.tokens),
            room,
            rows.keys.stride(0),
            logits_BV.data_ptr(),
            *(draw or (None, None, None)),
        )
        fused.call("decode", ctypes.addressof(self._model), ctypes.addressof(batch))
        return logits_BV


def _layer(block: Any) -> _Layer | None:
    """One layer as the compiled step is told of it; the tensors behind it belong to the model."""
    attention, mlp = block.self_attn, block.mlp
    if not isinstance(attention, Attention) or not isinstance(mlp, MLP) or attention.interleaved:
        return None
    norms = (block.input_layernorm, block.post_attention_layernorm, attention.q_norm, attention.k_norm)
    if any(norm is not None and norm.weight.dtype != torch.float32 for norm in norms):
        return None
    products = [
        _joined(attention.qkv),
        _single(attention.o_proj),
        _joined(mlp.gate_up),
        _single(mlp.down_proj),
    ]
    if None in products or mlp.down_proj.weight.shape[1] % STRIP:
        return None
    return _Layer(*(None if norm is None else norm.weight.data_ptr() for norm in norms), *products)


def _joined(linears: object) -> Product | None:
    if not isinstance(linears, FusedLinears) or any(part.adapter is not None for part in linears.parts):
        return None
    weight, bias = linears.view or (None, None)
    return weight.product(bias) if isinstance(weight, Strips) else None


def _single(linear: object) -> Product | None:
    if not isinstance(linear, Linear) or linear.adapter is not None or linear.bias is not None:
        return None
    return linear.packed.product(None) if isinstance(linear.packed, Strips) else None
