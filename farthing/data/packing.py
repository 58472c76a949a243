"""Rows by length: which samples share a micro-batch, and where each lies in it. Torch-free.

All rows of a micro-batch lie end to end in one flat sequence, so that the matrix products see no padding but the few
tokens that round a row up; attention then takes rows of equal rounded length as one rectangle, which needs no mask,
because padding stands on the right, where causal attention never looks. On CPUs one long row with a block-diagonal mask
would be quadratic waste. Lengths and totals are rounded because every new shape costs a CPU kernel to be generated.

Samples of one prompt share its tokens: the prompt lies there once, as a row of its own, and each sample adds a tail
that reads the prompt's keys and values. No row's last token is laid: nothing is predicted from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from farthing.data.sample import Sample

ROW_QUANTUM = 16
FLAT_QUANTUM = 128
TRAINED_QUANTUM = 256


def rounded(length: int, quantum: int) -> int:
    """`length` rounded up to a multiple of `quantum`."""
    return -(-length // quantum) * quantum


@dataclass(frozen=True)
class Family:
    """Samples, by index, that begin with the same `shared` tokens; `shared` is 0 where a sample stands alone."""

    shared: int
    members: tuple[int, ...]


def families(samples: Sequence[Sample], share: bool = True) -> list[Family]:
    """Samples by prompt, in order of appearance. A prompt shorter than ROW_QUANTUM is not worth sharing."""
    if not share:
        return [Family(0, (index,)) for index in range(len(samples))]
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        by_prompt.setdefault(tuple(sample.token_ids[: sample.prompt_len]), []).append(index)
    found = []
    for prompt, members in by_prompt.items():
        if len(members) > 1 and len(prompt) >= ROW_QUANTUM:
            found.append(Family(len(prompt), tuple(members)))
        else:
            found += [Family(0, (index,)) for index in members]
    return found


def microbatches(samples: Sequence[Sample], token_budget: int, share: bool = True) -> list[list[int]]:
    """Indices of samples in groups whose rounded tokens, shared prompts counted once, are at most `token_budget`.

    Families with the longest rows first, ties in the given order. A family is split only where it exceeds the budget by
    itself; each part then computes the prompt again. A row longer than the budget stands alone.
    """
    batches: list[list[int]] = []
    room = -1
    for part, size in _parts(samples, token_budget, share):
        if size > room:
            batches.append([])
            room = token_budget
        batches[-1] += part
        room -= size
    return batches


def _parts(samples: Sequence[Sample], token_budget: int, share: bool) -> list[tuple[list[int], int]]:
    """Families, or as much of one as fits the budget, with their rounded tokens; longest rows first."""
    parts: list[tuple[list[int], int]] = []

    def longest(family: Family) -> int:
        return max(len(samples[index].token_ids) for index in family.members)

    for family in sorted(families(samples, share), key=lambda family: -longest(family)):
        prompt = rounded(family.shared, ROW_QUANTUM)
        part: list[int] = []
        size = prompt
        for index in sorted(family.members, key=lambda index: -len(samples[index].token_ids)):
            tail = rounded(len(samples[index].token_ids) - 1 - family.shared, ROW_QUANTUM)
            if part and size + tail > token_budget:
                parts.append((part, size))
                part, size = [], prompt
            part.append(index)
            size += tail
        parts.append((part, size))
    return parts


@dataclass(frozen=True)
class Segment:
    """Part of a row in the flat sequence: the first `length` tokens of sample `sample` behind its first `offset`.

    `prompt`: index, among the segments, of the one that holds the tokens before `offset`; None where there are none.
    """

    sample: int
    offset: int
    length: int
    prompt: int | None = None


@dataclass(frozen=True)
class Rectangle:
    """Segments `first` to `first + rows`, each rounded to `length` tokens, the first beginning at flat place `start`.
    Each continues a prompt that was rounded to `prefix` tokens (0: none, whole rows and the prompts themselves)."""

    first: int
    rows: int
    start: int
    length: int
    prefix: int

    @property
    def end(self) -> int:
        return self.start + self.rows * self.length


@dataclass(frozen=True)
class Layout:
    """Where everything lies: the segments, the place where each starts, the rectangles they form, the size of it all.

    `predictors[i]`: the flat places from which the trained tokens of sample i are predicted, in order.
    """

    segments: list[Segment]
    starts: list[int]
    rectangles: list[Rectangle]
    predictors: list[list[int]]
    size: int


def layout(samples: Sequence[Sample], share: bool = True) -> Layout:
    """Lay the samples end to end: whole rows and prompts, then the tails; the longest of each first."""
    segments = _segments(samples, share)
    starts: list[int] = []
    rectangles: list[Rectangle] = []
    place = 0

    def shape(segment: Segment) -> tuple[int, int]:
        prefix = 0 if segment.prompt is None else segments[segment.prompt].length
        return rounded(prefix, ROW_QUANTUM), rounded(segment.length, ROW_QUANTUM)

    for (prefix, length), same in groupby(segments, key=shape):
        rows = len(list(same))
        if length:
            rectangles.append(Rectangle(len(starts), rows, place, length, prefix))
        starts += [place + row * length for row in range(rows)]
        place += rows * length
    return Layout(
        segments, starts, rectangles, _predictors(samples, segments, starts), rounded(place, FLAT_QUANTUM)
    )


def _segments(samples: Sequence[Sample], share: bool) -> list[Segment]:
    """Whole rows and prompts by falling length; then tails by falling length of prompt and of their own. A sample of
    which a single token is trained has a tail of no tokens."""
    heads: list[tuple[Segment, Family]] = []
    for family in families(samples, share):
        first = family.members[0]
        length = family.shared or len(samples[first].token_ids) - 1
        heads.append((Segment(first, 0, length), family))
    heads.sort(key=lambda head: -head[0].length)
    tails = [
        Segment(index, family.shared, len(samples[index].token_ids) - 1 - family.shared, prompt)
        for prompt, (_, family) in enumerate(heads)
        if family.shared
        for index in family.members
    ]
    tails.sort(key=lambda tail: (-rounded(tail.offset, ROW_QUANTUM), -rounded(tail.length, ROW_QUANTUM)))
    return [head for head, _ in heads] + tails


def _predictors(samples: Sequence[Sample], segments: list[Segment], starts: list[int]) -> list[list[int]]:
    """A shared prompt's last token predicts the first trained token of all its samples, whose tails come after it."""
    found: list[list[int]] = [[] for _ in samples]
    for segment, start in zip(segments, starts, strict=True):
        own = range(start, start + segment.length)
        if segment.prompt is None:
            found[segment.sample] = list(own[samples[segment.sample].prompt_len - 1 :])
        else:
            last = starts[segment.prompt] + segment.offset - 1
            found[segment.sample] = [last, *own]
    return found
