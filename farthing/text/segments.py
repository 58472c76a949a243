"""A rendered text taken apart at its genuine control tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Segment(NamedTuple):
    """A control token (`token_id` set) or the ordinary text between two of them; `start` counts characters."""

    text: str
    token_id: int | None
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def segment(text: str, pattern: re.Pattern[str], tokens: Mapping[str, int]) -> list[Segment]:
    """Cut `text` at every token that `pattern` finds; nothing is lost, no segment is empty."""
    out: list[Segment] = []
    at = 0
    for found in pattern.finditer(text):
        if found.start() > at:
            out.append(Segment(text[at : found.start()], None, at))
        out.append(Segment(found.group(), tokens[found.group()], found.start()))
        at = found.end()
    if at < len(text):
        out.append(Segment(text[at:], None, at))
    return out


def common_prefix(left: list[Segment], right: list[Segment]) -> int:
    """Characters that both begin with, a control token being one indivisible character."""
    upto = 0
    for one, other in zip(left, right, strict=False):
        if one.text == other.text and one.token_id == other.token_id:
            upto = one.end
            continue
        if one.token_id is None and other.token_id is None:
            upto += _common(one.text, other.text)
        break
    return upto


def _common(left: str, right: str) -> int:
    size = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        size += 1
    return size
