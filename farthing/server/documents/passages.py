"""A text cut into passages of a few hundred characters. A pure function.

    a paragraph ends ▷ a sentence ends ▷ a line ends ▷ a word ends

The first of these that there is within reach is where a passage ends. The end of a page is white space like any other:
most of them stand within a sentence, and what is read there is quoted in one piece.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LEAST, MOST = 160, 480
PAGE_BREAK = "\f"
"""Between two pages of a document that has pages."""

_ENDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\n[^\S\n]*\n",
        r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？][」』”）]*",
        r"\n",
        r"\s",
    )
)
_WHITE = re.compile(r"\s*")


class Passage(NamedTuple):
    """`text[start:stop]` of a document, in characters."""

    start: int
    stop: int


def split(text: str, least: int = LEAST, most: int = MOST) -> list[Passage]:
    """The passages of `text` in order: none overlap, all but white space is in one, none is longer than `most`."""
    out = []
    at = _white(text, 0)
    while at < len(text):
        cut = _cut(text, at, least, most)
        stop = at + len(text[at:cut].rstrip())
        out.append(Passage(at, stop))
        at = _white(text, cut)
    return out


def _white(text: str, at: int) -> int:
    """Behind the white space that begins at `at`."""
    match = _WHITE.match(text, at)
    assert match is not None
    return match.end()


def _cut(text: str, start: int, least: int, most: int) -> int:
    """Where the passage that begins at `start` ends."""
    if len(text) - start <= most and not _ENDS[0].search(text, start + least):
        return len(text)
    for number, end in enumerate(_ENDS):
        places = [match.end() for match in end.finditer(text, start + least, start + most + 1)]
        fitting = [place for place in places if place - start <= most]
        if fitting:
            return fitting[0] if number == 0 else fitting[-1]
    return min(len(text), start + most)
