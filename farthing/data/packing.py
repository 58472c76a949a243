"""Rows by length: which samples share a micro-batch, and where each lies in it. Torch-free.

All rows of a micro-batch lie end to end in one flat sequence, so that the matrix products see no padding but the few
tokens that round a row up; attention then takes rows of equal rounded length as one rectangle, which needs no mask,
because padding stands on the right, where causal attention never looks. On CPUs one long row with a block-diagonal mask
would be quadratic waste. Lengths and totals are rounded because every new shape costs a CPU kernel to be generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

ROW_QUANTUM = 16
FLAT_QUANTUM = 512


def rounded(length: int, quantum: int) -> int:
    """`length` rounded up to a multiple of `quantum`."""
    return -(-length // quantum) * quantum


def microbatches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indices of rows in groups whose rounded lengths sum to at most `token_budget`.

    Longest first, ties in the given order: a pure function of the lengths. A row longer than the budget stands alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups: list[list[int]] = []
    filled = token_budget + 1
    for index in order:
        size = rounded(lengths[index], ROW_QUANTUM)
        if filled + size > token_budget:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += size
    return groups


@dataclass(frozen=True)
class Rectangle:
    """`rows` rows of `length` tokens each, beginning at `start` of the flat sequence."""

    start: int
    rows: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.rows * self.length


@dataclass(frozen=True)
class Layout:
    """Where rows lie: `starts` of each row in the flat sequence of `size` tokens, and the rectangles they form."""

    starts: list[int]
    rectangles: list[Rectangle]
    size: int


def layout(lengths: Sequence[int]) -> Layout:
    """Lay rows, given longest first, end to end."""
    starts: list[int] = []
    rectangles: list[Rectangle] = []
    position = 0
    for length, same in groupby(rounded(length, ROW_QUANTUM) for length in lengths):
        rows = len(list(same))
        rectangles.append(Rectangle(position, rows, length))
        starts += [position + row * length for row in range(rows)]
        position += rows * length
    return Layout(starts, rectangles, rounded(position, FLAT_QUANTUM))
