"""A whole decoding step in one call: what `Decoder.hidden` and `Decoder.logits` compute for one new token a row, the
last few of a prompt among them, and the draw from them, for dense models that compute in bfloat16, on processors that
`native/step.cpp` is written for.

The numbers are those of the plain operations up to the order in which a product is summed, with weights of 8 bits to
the last bit, and every row's depend on that row alone. `Step.of` is None for whatever is not a plain dense model:
experts, latents, adapters.
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
from farthing.models.layers import MLP, Linear, Projection
from farthing.models.packed import STRIP, Product, Strips, StripsLinear
from farthing.models.rope import rotary_tables
from farthing.models.whole import Int8Linear, Whole, WholeStrips

_P, _N, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_STREAMS = (torch.float32, torch.bfloat16)
_Parts = tuple[Tensor | Product | Whole | None, ...]


class _Layer(ctypes.Structure):
    _fields_ = tuple(
        (name, _P)
        for name in ("input_gain", "post_gain", "q_gain", "k_gain", "qkv", "out", "gate_up", "down")
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, _P) for name in ("layers", "head", "embedding", "gain")),
        *(
            (name, _N)
            for name in ("num_layers", "hidden", "queries", "keys", "size", "intermediate", "vocabulary")
        ),
        *((name, _F) for name in ("eps", "scale")),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        *((name, _P) for name in ("tokens", "lengths", "places", "order", "donors", "shared")),
        *((name, _P) for name in ("cos", "sin", "keys", "values")),
        *((name, _N) for name in ("rows", "drawing", "room", "layer_stride")),
        *((name, _P) for name in ("logits", "uniform", "drawn", "logprobs")),
    )


@dataclass(frozen=True)
class Alike:
    """Which rows have the same beginning, so that it need be in memory, and be read from it, only once. int64 [B] each:
    `order`, rows of a group one after the other; `donors`, the place whose keys and values are read in place of row n's
    own; `shared`, how many of them, a multiple of 16."""

    order: np.ndarray
    donors: np.ndarray
    shared: np.ndarray

    @classmethod
    def of(cls, donors: np.ndarray, shared: np.ndarray) -> Alike:
        """Rows that read one place are a group."""
        return cls(np.argsort(donors, kind="stable"), donors, shared)


@dataclass(frozen=True)
class Rows:
    """What is computed: int64 `tokens` [B] that stand behind int64 `lengths` [B] others. Row n's keys and values are in
    place `places[n]` (int64 [B]) of `keys` and `values` [L, S, K, room, D] in bfloat16, where the new ones are written.
    The first `drawing` rows want a next token; those behind them are earlier tokens of the same places."""

    tokens: np.ndarray
    lengths: np.ndarray
    places: np.ndarray
    drawing: int
    alike: Alike
    keys: Tensor
    values: Tensor


class Step:
    """The compiled step of one model as it was published; another has to be made after every update."""

    def __init__(self, model: Any, layers: list[_Parts], head: Tensor | Whole) -> None:
        config = model.config
        self._inv_freq, self._table_factor = model.inv_freq, model.table_factor
        self._cos = self._sin = torch.empty(0, config.head_dim // 2, dtype=torch.bfloat16)
        embedding, gain = model.model.embed_tokens.weight, model.model.norm.weight
        kind = "pairs" if isinstance(head, Tensor) else "whole"
        self._name = f"decode_{kind}_{fused.LETTER[embedding.dtype]}"
        self._kept = layers, head, embedding, gain
        self._layers = (_Layer * len(layers))(*(_Layer(*map(_place, parts)) for parts in layers))
        self._model = _Model(
            *map(_place, (self._layers, head, embedding, gain)),
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
        config, embedding = model.config, model.model.embed_tokens.weight
        if model.compute_dtype != torch.bfloat16 or embedding.device.type != "cpu" or not fused.has_pairs():
            return None
        if config.head_dim not in fused.HEAD_SIZES or config.intermediate_size % STRIP:
            return None
        dtype, head = embedding.dtype, _head(model)
        kind = Whole if isinstance(head, Whole) else Product
        if head is None or dtype not in _STREAMS:
            return None
        layers = [_parts(block, kind, dtype) for block in model.model.layers]
        known = [parts for parts in layers if parts is not None]
        suits = all(_is_plain(weight, dtype) for weight in (embedding, model.model.norm.weight))
        return cls(model, known, head) if suits and len(known) == len(layers) else None

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copied model has tensors of its own; until it is published the plain operations have to do."""

    def logits(self, rows: Rows) -> Tensor:
        """Logits of the next tokens, float32 [drawing, V]."""
        return self._run(rows)

    def draw(self, rows: Rows, uniform_B: np.ndarray) -> tuple[Tensor, Tensor]:
        """(the next tokens int64 [drawing], their log-probabilities float32 [drawing]), drawn from the model's own
        distribution as `fused.draw` does."""
        tokens_B, logprobs_B = torch.empty(len(uniform_B), dtype=torch.int64), torch.empty(len(uniform_B))
        self._run(rows, uniform_B.ctypes.data, tokens_B.data_ptr(), logprobs_B.data_ptr())
        return tokens_B, logprobs_B

    def _run(self, rows: Rows, *draw: int) -> Tensor:
        room = rows.keys.shape[3]
        if len(self._cos) < room:
            places = torch.arange(room)
            self._cos, self._sin = rotary_tables(self._inv_freq, places, torch.bfloat16, self._table_factor)
        alike, logits_BV = rows.alike, torch.empty(rows.drawing, self._model.vocabulary)
        columns = (rows.tokens, rows.lengths, rows.places, alike.order, alike.donors, alike.shared)
        tensors = (self._cos, self._sin, rows.keys, rows.values)
        batch = _Batch(
            *(column.ctypes.data for column in columns),
            *(tensor.data_ptr() for tensor in tensors),
            len(rows.tokens),
            rows.drawing,
            room,
            rows.keys.stride(0),
            logits_BV.data_ptr(),
            *(draw or (None, None, None)),
        )
        fused.call(self._name, ctypes.addressof(self._model), ctypes.addressof(batch))
        return logits_BV


def _place(part: Tensor | ctypes.Structure | ctypes.Array[_Layer] | None) -> int | None:
    if part is None:
        return None
    return part.data_ptr() if isinstance(part, Tensor) else ctypes.addressof(part)


def _is_plain(weight: Tensor, dtype: torch.dtype) -> bool:
    return weight.dtype == dtype and weight.is_contiguous()


def _head(model: Any) -> Tensor | Whole | None:
    """The head's weight [V, C] in the dtype of the stream, or in 8 bits."""
    if model.head is not None:
        return _whole(model.head)
    weight, dtype = model.head_weight, model.model.embed_tokens.weight.dtype
    return weight if model.head_dtype in (None, dtype) and _is_plain(weight, dtype) else None


def _parts(block: Any, kind: type[Product | Whole], dtype: torch.dtype) -> _Parts | None:
    """Gains in `dtype` and products of one layer, as the compiled step is told of them; the tensors behind it belong to
    the model. None where they are others than it knows, or products not of that kind."""
    attention, mlp = block.self_attn, block.mlp
    if not isinstance(attention, Attention) or not isinstance(mlp, MLP) or attention.interleaved:
        return None
    norms = (block.input_layernorm, block.post_attention_layernorm, attention.q_norm, attention.k_norm)
    gains = [None if norm is None else norm.weight for norm in norms]
    products = [_product(linear) for linear in (attention.qkv, attention.o_proj, mlp.gate_up, mlp.down_proj)]
    if not all(isinstance(product, kind) for product in products):
        return None
    return (*gains, *products) if all(gain is None or _is_plain(gain, dtype) for gain in gains) else None


def _product(linear: object) -> Product | Whole | None:
    projection = linear.projection if isinstance(linear, Linear) else linear
    if isinstance(projection, Projection):
        copy = None if projection.is_adapted else projection.copy
        if copy is None or not isinstance(copy.packed, Strips):
            return None
        return copy.packed.product(copy.bias)
    if isinstance(linear, StripsLinear):
        return linear.strips.product(linear.bias)
    return _whole(linear)


def _whole(linear: object) -> Whole | None:
    if isinstance(linear, Int8Linear) and isinstance(linear.product, WholeStrips):
        return linear.product.told
    return None
