"""A rendered text taken apart at its genuine control tokens."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from farthing.text.added import Control


class Segment(NamedTuple):
    """A control token (`token_id` set) or the ordinary text between two of them; `start` counts characters."""

    text: str
    token_id: int | None
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class Page(NamedTuple):
    """A rendered text with its segments; they cover it without gaps, none is empty."""

    text: str
    segments: tuple[Segment, ...]


def take_apart(text: str, control: Control) -> Page:
    """Cut `text` at every control token."""
    segments: list[Segment] = []
    at = 0
    for found in control.pattern.finditer(text):
        if found.start() > at:
            segments.append(Segment(text[at : found.start()], None, at))
        segments.append(Segment(found.group(), control.tokens[found.group()].id, found.start()))
        at = found.end()
    if at < len(text):
        segments.append(Segment(text[at:], None, at))
    return Page(text, tuple(segments))


def common_prefix(left: Page, right: Page) -> int:
    """How many characters both begin with, a control token counting as one indivisible character."""
    return _common(left.segments, right.segments, backwards=False)


def common_suffix(left: Page, right: Page) -> int:
    """How many characters both end with, a control token counting as one indivisible character."""
    return _common(tuple(reversed(left.segments)), tuple(reversed(right.segments)), backwards=True)


def _common(left: Iterable[Segment], right: Iterable[Segment], *, backwards: bool) -> int:
    size = 0
    for one, other in zip(left, right, strict=False):
        if one.text == other.text and one.token_id == other.token_id:
            size += len(one.text)
            continue
        if one.token_id is None and other.token_id is None:
            step = -1 if backwards else 1
            size += _same(one.text[::step], other.text[::step])
        break
    return size


def _same(left: str, right: str) -> int:
    for size, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return size
    return min(len(left), len(right))


def cut(segment: Segment, edges: Iterable[int]) -> list[Segment]:
    """The pieces of an ordinary segment between those `edges` that lie within it; a control token stays whole."""
    if segment.token_id is not None:
        return [segment]
    inner = sorted({edge for edge in edges if segment.start < edge < segment.end})
    return [
        Segment(segment.text[low - segment.start : high - segment.start], None, low)
        for low, high in pairwise([segment.start, *inner, segment.end])
    ]
