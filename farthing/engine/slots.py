"""Keys and values in contiguous slots: one row per sequence, decoding rows first, longest first.

PyTorch has no paged attention on CPUs, so each sequence owns a slot and the block table only keeps the books. Decoding
rows are kept in slots [0, n) and ordered by key bucket (their length rounded up), so that attention reads plain views:
no gather, and the padded key length of a row depends on its own length alone (batch independence).

Shapes: L layers, S slots, K key heads, T tokens, D key channels, V value channels, G query heads per key head.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models import fused

KEY_BUCKET = 64
# Rows are computed in multiples of this: below it a float32 product takes another kernel and rows would depend on the
# batch, and every new number of rows costs a CPU kernel to be generated.
ROW_QUANTUM = 16

_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0)  # Python 3.13 names it


def padded_rows(num_rows: int) -> int:
    """`num_rows` rounded up to whole quanta."""
    return -(-num_rows // ROW_QUANTUM) * ROW_QUANTUM


class Slots:
    """The storage: keys [L, S, K, T, D] and values [L, S, K, T, V], grown as needed."""

    def __init__(
        self, shapes: tuple[tuple[int, int], tuple[int, int]], layers: int, dtype: torch.dtype
    ) -> None:
        (key_heads, key_channels), (value_heads, value_channels) = shapes
        self.keys = torch.zeros(layers, 0, key_heads, 0, key_channels, dtype=dtype)
        self.values = torch.zeros(layers, 0, value_heads, 0, value_channels, dtype=dtype)

    @property
    def num_slots(self) -> int:
        return self.keys.shape[1]

    @property
    def num_tokens(self) -> int:
        """How long a sequence may become before room is made."""
        return self.keys.shape[3]

    def has_room(self, num_slots: int, num_tokens: int) -> bool:
        """Whether so many sequences of so many tokens fit what there is."""
        return num_slots <= self.num_slots and num_tokens <= self.num_tokens

    @property
    def are_read_exactly(self) -> bool:
        """Whether a row's keys are read up to its own length, wherever it sits: then rows need no order. Latents, which
        are their own values, and heads of unusual size are read in plain products over whole buckets."""
        alike = self.keys.shape == self.values.shape and self.keys.shape[-1] in fused.HEAD_SIZES
        return alike and fused.pays(self.keys)

    @property
    def token_bytes(self) -> int:
        """Of one token's keys and values in all layers."""
        per_layer = math.prod(self.keys.shape[2::2]) + math.prod(self.values.shape[2::2])
        return self.keys.shape[0] * per_layer * self.keys.itemsize

    def of(self, layer: int, value_channels: int) -> tuple[Tensor, Tensor]:
        """One layer's keys [S, K, T, D] and values [S, K, T, V]; latents are both, so there the values are a view."""
        keys, values = self.keys[layer], self.values[layer]
        return keys, values if values.shape[-1] else keys[..., :value_channels]

    def reserve(self, num_slots: int, num_tokens: int, held: Many[int] | None = None) -> None:
        """Room for `num_slots` sequences of `num_tokens` (rounded up to whole buckets); contents are kept. `held`: only
        these slots, the first, hold anything, and so many tokens each; where room is made, the others are let go.

        For plain products room for tokens grows one bucket at a time: where it equals the bucket of the rows in it,
        their keys are one contiguous block that is read in place; with room to spare they would be copied first. Where
        keys are read exactly it grows by half, so that contents are seldom moved.
        """
        if self.has_room(num_slots, num_tokens):
            return
        slots, tokens = self.num_slots, self.num_tokens
        if num_tokens > tokens and self.are_read_exactly:
            num_tokens = max(num_tokens, tokens * 3 // 2)
        num_tokens = max(-(-num_tokens // KEY_BUCKET) * KEY_BUCKET, tokens)
        held = [tokens] * slots if held is None else held[:slots]
        num_slots = max(num_slots, len(held))
        keys, values = (_room(store, num_slots, num_tokens) for store in (self.keys, self.values))
        # One after the other: what has been moved is let go before the next is.
        self.keys = _moved(self.keys, keys, held)
        self.values = _moved(self.values, values, held)

    def convert(self, dtype: torch.dtype) -> None:
        """Hold contents in another dtype from now on."""
        self.keys, self.values = self.keys.to(dtype), self.values.to(dtype)

    def clear(self) -> None:
        """Nobody is seated: give the room back, so that the next sequences start in the smallest bucket."""
        self.keys, self.values = (store[:, :0, :, :0].clone() for store in (self.keys, self.values))

    def permute(self, sources: list[int], targets: list[int], num_tokens: int) -> None:
        """slot targets[i] takes over what slot sources[i] held, all at once; the first `num_tokens` tokens count."""
        for store in (self.keys, self.values):
            store[:, targets, :, :num_tokens] = store[:, sources, :, :num_tokens]

    def exchange(self, one: int, other: int, start: int, end: int) -> None:
        """Two slots take over what the other held of tokens [start, end); slices are copied faster than lists of slots
        are gathered."""
        for store in (self.keys, self.values):
            held = store[:, one, :, start:end].clone()
            store[:, one, :, start:end] = store[:, other, :, start:end]
            store[:, other, :, start:end] = held

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Tokens [start, end) of two slots are the same: their keys and values are computed once and copied."""
        for store in (self.keys, self.values):
            store[:, target, :, start:end] = store[:, source, :, start:end]


def _room(store: Tensor, num_slots: int, num_tokens: int) -> Tensor:
    """Zeros for so many slots and tokens, from the system itself: what nobody writes takes no memory, and what is let
    go is given back at once, where an allocator would keep it for others. Raises OSError if it is not granted."""
    layers, _, heads, _, channels = store.shape
    shape = (layers, num_slots, heads, num_tokens, channels)
    if not math.prod(shape):
        return torch.zeros(shape, dtype=store.dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape) * store.itemsize, flags), dtype=store.dtype).view(
        shape
    )


def _moved(store: Tensor, room: Tensor, held: Many[int]) -> Tensor:
    for slot, tokens in enumerate(held):
        room[:, slot, :, :tokens] = store[:, slot, :, :tokens]
    return room


@dataclass(frozen=True)
class Span:
    """Rows [start, end) whose keys are padded to `num_keys`; `mask` [rows * K, 1, num_keys] hides what is not theirs.
    They are computed as rows [start, stop): what stands between `end` and `stop` is read and thrown away."""

    start: int
    end: int
    stop: int
    num_keys: int
    mask: Tensor


class DecodeAttend:
    """One new token per row: rows [0, n) write to their slots and read them; rows beyond n are padding of the batch."""

    def __init__(self, slots: Slots, lengths: np.ndarray) -> None:
        self.slots, self.num_rows = slots, len(lengths)
        self.rows = torch.arange(self.num_rows)
        self.positions = torch.from_numpy(lengths)

    @cached_property
    def spans(self) -> list[Span]:
        """What the plain products need: rows of one bucket side by side."""
        heads = self.slots.keys.shape[2]
        return [
            self._span(start, end, keys, heads) for start, end, keys in buckets(self.positions.numpy() + 1)
        ]

    def _span(self, start: int, end: int, num_keys: int, heads: int) -> Span:
        stop = start + padded_rows(end - start)
        lengths = torch.zeros(stop - start, 1, dtype=torch.int64)
        lengths[: end - start, 0] = self.positions[start:end]
        hidden = torch.arange(num_keys) > lengths
        mask = torch.zeros(hidden.shape, dtype=self.slots.keys.dtype).masked_fill_(hidden, float("-inf"))
        return Span(start, end, stop, num_keys, mask.repeat_interleave(heads, dim=0).unsqueeze(1))

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        store_k, store_v = self.slots.of(layer, values.shape[-1])
        if self.slots.are_read_exactly:
            q, k, v = (x[:, 0].to(store_k.dtype) for x in (queries, keys, values))
            out = fused.attend(q, k, v, (store_k, store_v), self.positions, scale)
            return out.unsqueeze(1).to(queries.dtype)
        store_k[self.rows, :, self.positions] = keys[: self.num_rows, 0].to(store_k.dtype)
        store_v[self.rows, :, self.positions] = values[: self.num_rows, 0].to(store_v.dtype)
        if len(self.spans) == 1:
            return _read(self.spans[0], queries[:, 0], store_k, store_v, scale).unsqueeze(1)
        out = queries.new_zeros(*queries.shape[:3], store_v.shape[-1])
        for span in self.spans:
            wanted = span.end - span.start
            out[span.start : span.end, 0] = _read(
                span, queries[span.start : span.stop, 0], store_k, store_v, scale
            )[:wanted]
        return out


def _read(span: Span, queries: Tensor, store_k: Tensor, store_v: Tensor, scale: float) -> Tensor:
    """softmax(q k^T) v for rows of one span: queries [n, H, D] -> [n, H, V]; scores are scaled inside the product."""
    num_heads, key_heads = queries.shape[1], store_k.shape[1]
    if len(queries) < span.stop - span.start:
        missing = span.stop - span.start - len(queries)
        queries = torch.cat([queries, queries.new_zeros(missing, *queries.shape[1:])])
    flat_q = queries.reshape(-1, num_heads // key_heads, queries.shape[-1])
    keys = store_k[span.start : span.stop].flatten(0, 1)[:, : span.num_keys]
    values = store_v[span.start : span.stop].flatten(0, 1)[:, : span.num_keys]
    scores = torch.baddbmm(span.mask, flat_q, keys.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(dim=-1), values).view(queries.shape[0], num_heads, -1)


class PrefillAttend:
    """Several new tokens per row. Row i continues at token `start` the sequence of slot `places[i]`, which has all
    tokens before it itself."""

    def __init__(self, slots: Slots, places: list[int], start: int, length: int) -> None:
        self.slots, self.places, self.start, self.end = slots, places, start, start + length

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        store_k, store_v = self.slots.of(layer, values.shape[-1])
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
        store_k[self.places, :, self.start : self.end] = keys.to(store_k.dtype)
        store_v[self.places, :, self.start : self.end] = values.to(store_v.dtype)
        mask = None
        if self.start:
            keys = store_k[self.places, :, : self.end]
            values = store_v[self.places, :, : self.end]
            mask = torch.ones(self.end - self.start, self.end, dtype=torch.bool).tril_(self.start)
        out = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=queries.shape[2] != keys.shape[1],
        )
        return out.transpose(1, 2)


def buckets(num_keys: np.ndarray) -> list[tuple[int, int, int]]:
    """(start, end, padded keys) of runs of rows with the same bucket; rows are already ordered by bucket."""
    padded = -(-num_keys // KEY_BUCKET) * KEY_BUCKET
    edges = [0, *(np.flatnonzero(np.diff(padded)) + 1).tolist(), len(padded)]
    return [(start, end, int(padded[start])) for start, end in pairwise(edges) if end > start]


def ordering(num_keys: np.ndarray) -> tuple[list[int], list[int]]:
    """(sources, targets) of the fewest moves that bring rows into descending bucket order; empty when they are."""
    padded = -(-num_keys // KEY_BUCKET)
    wanted = np.sort(padded)[::-1]
    misplaced = np.flatnonzero(padded != wanted)
    if not len(misplaced):
        return [], []
    # Within the misplaced places, the multiset of buckets present equals the multiset wanted: match them by rank.
    targets = misplaced[np.argsort(-wanted[misplaced], kind="stable")]
    sources = misplaced[np.argsort(-padded[misplaced], kind="stable")]
    return sources.tolist(), targets.tolist()
