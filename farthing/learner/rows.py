"""Rows laid end to end: the flat token sequence of a micro-batch and the attention that keeps rows apart.

Shapes: N flat tokens, H query heads, K key heads, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import torch
from torch import Tensor

from farthing.data.packing import ROW_QUANTUM, Layout, layout, rounded
from farthing.models.attention import causal


class FlatRows:
    """Token rows, longest first, as one sequence: `token_ids` and `positions` [1, N], and an `Attend` for it.

    Padding repeats the rows' own tokens: experts count it as well, and one token for all of it would look like a load.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.layout: Layout = layout([len(row) for row in rows])
        flat = list(islice(cycle(rows[0]), self.layout.size))
        for start, row in zip(self.layout.starts, rows, strict=True):
            width = rounded(len(row), ROW_QUANTUM)
            flat[start : start + width] = islice(cycle(row), width)
        self.token_ids = torch.tensor([flat], dtype=torch.int64)
        tail = self.layout.size - (self.layout.rectangles[-1].end if self.layout.rectangles else 0)
        counted = [torch.arange(part.length).repeat(part.rows) for part in self.layout.rectangles]
        self.positions = torch.cat([*counted, torch.zeros(tail, dtype=torch.int64)]).unsqueeze(0)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Causal attention within each row; the padding behind the last row reads nothing."""
        out = []
        for part in self.layout.rectangles:
            shape = (part.rows, part.length)
            q, k, v = (x[0, part.start : part.end].unflatten(0, shape) for x in (queries, keys, values))
            out.append(causal(layer, q, k, v, scale).flatten(0, 1))
        end = self.layout.rectangles[-1].end
        padding = queries.new_zeros(self.layout.size - end, queries.shape[2], values.shape[-1])
        return torch.cat([*out, padding]).unsqueeze(0)
