"""The regions of an assistant turn: thinking, answer, tool calls and plain text, found while the text is coming.

The format reward, the server and the page use this one parser, so they cannot disagree. What it finds depends only
on the whole text, never on how it was cut into pieces. There is no nesting: a tag counts where it makes sense
(`<think>` outside a region, `</think>` inside thinking, ...) and is ordinary text elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

Region = Literal["thinking", "answer", "tool_call", "text"]

# From each region, the tags that mean something there and the region that begins behind them.
_MOVES: dict[Region, dict[str, Region]] = {
    "text": {"<think>": "thinking", "<answer>": "answer", "<tool_call>": "tool_call"},
    "thinking": {"</think>": "text"},
    "answer": {"</answer>": "text"},
    "tool_call": {"</tool_call>": "text"},
}
_WITHOUT_TOOLS: dict[Region, dict[str, Region]] = {
    **_MOVES,
    "text": {"<think>": "thinking", "<answer>": "answer"},
}
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass(frozen=True)
class Regions:
    """An assistant turn taken apart.

    `thinking`: the first think block, closed or not; None where there is none. `answer`: the last *closed* answer
    block (a turn cut off in the middle of its answer gave none). `rest`: everything outside the blocks.
    `well_formed`: each tag exactly once, one think block, then one answer block, nothing but white space between
    and around them.
    """

    thinking: str | None
    answer: str | None
    rest: str
    well_formed: bool


@dataclass
class Block:
    """One stretch of a turn; a text block lies between, before or behind the tagged ones."""

    region: Region
    pieces: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def text(self) -> str:
        """What came so far, tags left out."""
        return "".join(self.pieces)


class RegionParser:
    """Feed the turn in pieces of any size; each call returns what became certain, as (region, text) pairs.

    `start_in_thinking`: the prompt ended with an opened think block, so the turn begins inside it. `tools`: tool calls
    are a region too; without it their tags are text. `blocks` holds everything so far; each tag begins a new one.
    """

    def __init__(self, start_in_thinking: bool = False, *, tools: bool = False) -> None:
        self._moves = _MOVES if tools else _WITHOUT_TOOLS
        self.blocks: list[Block] = [Block("thinking" if start_in_thinking else "text")]
        self._pending = ""

    @property
    def region(self) -> Region:
        """Where the next text would fall."""
        return self.blocks[-1].region

    def feed(self, piece: str) -> list[tuple[Region, str]]:
        """Parse `piece`; text that may be the beginning of a tag is held back until that is decided."""
        text, at = self._pending + piece, 0
        out: list[tuple[Region, str]] = []
        while (tag := _any_of(*self._moves[self.region]).search(text, at)) is not None:
            self._emit(out, text[at : tag.start()])
            self.blocks[-1].closed = True
            self.blocks.append(Block(self._moves[self.region][tag[0]]))
            at = tag.end()
        sure = len(text) - _undecided(text[at:], self._moves[self.region])
        self._emit(out, text[at:sure])
        self._pending = text[sure:]
        return out

    def finish(self) -> list[tuple[Region, str]]:
        """The turn is over: what was held back is text after all."""
        out: list[tuple[Region, str]] = []
        self._emit(out, self._pending)
        self._pending = ""
        return out

    def _emit(self, out: list[tuple[Region, str]], text: str) -> None:
        if text:
            self.blocks[-1].pieces.append(text)
            out.append((self.region, text))


def split(text: str, *, start_in_thinking: bool = False) -> Regions:
    """Take a whole turn apart; `start_in_thinking` where `text` begins behind a `<think>` in the prompt."""
    parser = RegionParser(start_in_thinking)
    parser.feed(text)
    parser.finish()
    blocks = parser.blocks
    thinking = [block.text for block in blocks if block.region == "thinking"]
    answers = [block.text for block in blocks if block.region == "answer" and block.closed]
    rest = "".join(block.text for block in blocks if block.region == "text")
    return Regions(
        thinking=thinking[0] if thinking else None,
        answer=answers[-1] if answers else None,
        rest=rest,
        well_formed=_well_formed(blocks, rest),
    )


def _well_formed(blocks: list[Block], rest: str) -> bool:
    tagged = [block for block in blocks if block.region != "text"]
    return (
        [block.region for block in tagged] == ["thinking", "answer"]
        and all(block.closed for block in tagged)
        and not rest.strip()
        and not any(tag in block.text for block in tagged for tag in _TAGS)
    )


@cache
def _any_of(*tags: str) -> re.Pattern[str]:
    """One search for all tags: a text of many tags is still read once."""
    return re.compile("|".join(map(re.escape, tags)))


def _undecided(text: str, tags: Iterable[str]) -> int:
    """How many characters at the end of `text` may still become one of `tags`."""
    longest = min(len(text), max(map(len, tags)) - 1)
    for size in range(longest, 0, -1):
        if any(tag.startswith(text[-size:]) for tag in tags):
            return size
    return 0
