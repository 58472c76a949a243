"""From token ids to what a client sees: thinking, content and tool calls, told apart by the ids of their tags.

    ids ─▶ region (by tag ids) ─▶ text (whole characters) ─▶ stop strings, white space ─▶ Delta

The state at the beginning comes from the rendered prompt. Text that looks like a tag but is not its token stays text.
What comes out, joined, depends on the tokens alone and never on how they arrived, so a streamed turn is the same as
one that was waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from farthing.server.protocol.calls import CallDelta, CallParser
from farthing.text.tokenizer import Tokenizer

Region = Literal["thinking", "text", "answer", "call"]


@dataclass(frozen=True)
class Tags:
    """Ids of the tokens that divide a turn; None where the vocabulary has no such token."""

    think: int | None = None
    think_end: int | None = None
    answer: int | None = None
    answer_end: int | None = None
    call: int | None = None
    call_end: int | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Tags:
        """The tags a vocabulary has as single tokens, in pairs."""
        found: dict[str, int | None] = {}
        for name, tag in (("think", "think"), ("answer", "answer"), ("call", "tool_call")):
            pair = tokenizer.token_id(f"<{tag}>"), tokenizer.token_id(f"</{tag}>")
            found[name], found[f"{name}_end"] = pair if None not in pair else (None, None)
        return cls(**found)

    def moves(self) -> dict[tuple[Region, int], Region]:
        """(region, tag) -> the region behind it; a tag that is not listed for a region means nothing there."""
        listed: list[tuple[Region, int | None, Region]] = [
            ("text", self.think, "thinking"),
            ("thinking", self.think_end, "text"),
            ("text", self.answer, "answer"),
            ("answer", self.answer_end, "text"),
            ("text", self.call, "call"),
            ("call", self.call_end, "text"),
        ]
        return {(region, tag): behind for region, tag, behind in listed if tag is not None}

    def start(self, prefilled: str, ids: Sequence[int]) -> Region:
        """Where a turn stands when the prompt `ids` has written `prefilled` of it."""
        opening: dict[int | None, Region] = {self.think: "thinking", self.answer: "answer"}
        known = {self.think, self.think_end, self.answer, self.answer_end} - {None}
        if not any(tag in prefilled for tag in ("think>", "answer>")):
            return "text"
        last = next((token for token in reversed(ids) if token in known), None)
        return opening.get(last, "text")


class Entry(NamedTuple):
    """A content token with the log-probabilities that go with it."""

    token_id: int
    logprob: float
    top: Sequence[Sequence[Any]]


@dataclass
class Delta:
    """What became certain of one region since the last one."""

    thinking: str = ""
    content: str = ""
    calls: list[CallDelta] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    thinking_entries: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.thinking or self.content or self.calls or self.entries or self.thinking_entries)


class StopStrings:
    """Text up to the first of a few strings; what may be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=1)
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """What is certain to come before any stop string."""
        if not self._stops:
            return text
        text = self._held + text
        # The one that is complete first counts; so it makes no difference in what pieces the text came.
        places = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if places:
            self.hit, self._held = True, ""
            return text[: min(places)[1]]
        sure = len(text) - self._undecided(text)
        self._held = text[sure:]
        return text[:sure]

    def flush(self) -> str:
        """The text is over: what was held back was no stop string."""
        text, self._held = self._held, ""
        return text

    def _undecided(self, text: str) -> int:
        for size in range(min(len(text), self._longest - 1), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0


class _Ledger:
    """Which tokens the emitted characters belong to, so that their log-probabilities go out with them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, int, Entry]] = deque()
        self._come = 0
        self._gone = 0

    def come(self, characters: int, entry: Entry) -> None:
        """A token brought so many characters; none, if it is part of one that is not complete."""
        self._waiting.append((self._come, self._come + characters, entry))
        self._come += characters

    def gone(self, characters: int) -> list[Entry]:
        """Characters went out: the tokens that begin in them."""
        self._gone += characters
        out = []
        while self._waiting and self._waiting[0][0] < self._gone:
            out.append(self._waiting.popleft()[2])
        return out

    def dropped(self, characters: int) -> None:
        """Characters will never go out; neither do tokens that brought nothing else."""
        self._gone += characters
        while self._waiting and self._waiting[0][0] < self._gone and self._waiting[0][1] <= self._gone:
            self._waiting.popleft()


class TurnParser:
    """One assistant turn, which the prompt leaves at `start`. `stopped`: a stop string was met, nothing more comes.

    `goes_on`: the turn was cut short and is continued, so white space at its beginning belongs to it.
    `stops` count in what the client sees as content, never in the thinking. `plain`: no regions at all, as for a raw
    completion; then every token has its entry, the one that ends the turn too.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tags: Tags,
        *,
        start: Region = "text",
        behind_thinking: bool = False,
        goes_on: bool = False,
        stops: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        plain: bool = False,
        with_entries: bool = False,
    ) -> None:
        self.region: Region = start
        self.stopped = False
        self.thinking_tokens = 0
        self.num_calls = 0
        self._plain = plain
        self._moves = {} if plain else tags.moves()
        self._stop_ids = frozenset(stop_ids)
        self._decoder = tokenizer.stream(skip_special=True)
        self._stops = StopStrings(stops)
        self._delta = Delta()
        self._left: list[Delta] = []
        self._with_entries = with_entries
        self._ledger = _Ledger()
        self._trim_thinking = not goes_on
        self._held_space = ""
        self._trim_content = behind_thinking and not goes_on
        self._call: CallParser | None = None

    def feed(self, token_id: int, logprob: float = 0.0, top: Sequence[Sequence[Any]] = ()) -> None:
        """Take one token."""
        if self.stopped:
            return
        if token_id in self._stop_ids:
            if self._plain and self._with_entries:
                self._delta.entries.append(Entry(token_id, logprob, top))
            return
        target = self._moves.get((self.region, token_id))
        if self.region == "thinking" and target is None:
            self.thinking_tokens += 1
        if target is not None:
            self._move(target)
            return
        text = self._decoder.push(token_id)
        if self._with_entries:
            self._note(text, Entry(token_id, logprob, top))
        if text:
            self._emit(text)

    def finish(self) -> None:
        """The turn is over: whatever was held back comes out."""
        if not self.stopped:
            self._leave()

    def take(self) -> list[Delta]:
        """What has become certain since the last call, in the order in which it was written."""
        self._turn_over()
        deltas, self._left = self._left, []
        return deltas

    def _turn_over(self) -> None:
        """What comes now does not belong with what came."""
        if self._delta:
            self._left.append(self._delta)
            self._delta = Delta()

    def _note(self, text: str, entry: Entry) -> None:
        if self._plain:
            self._delta.entries.append(entry)
        elif self.region == "thinking":
            self._delta.thinking_entries.append(entry)
        elif self.region != "call":
            self._ledger.come(len(text), entry)

    def _move(self, target: Region) -> None:
        self._leave()
        self._turn_over()
        if self.region == "thinking":
            self._trim_content = True
        if target == "call":
            self._call = CallParser(self.num_calls)
            self.num_calls += 1
        if target == "thinking":
            self._trim_thinking = True
        self.region = target

    def _leave(self) -> None:
        """The region ends: bytes of an unfinished character and text that was held back come out."""
        rest = self._decoder.flush()
        if rest:
            self._emit(rest)
        if self.region == "call" and self._call is not None:
            self._delta.calls += self._call.finish()
            self._call = None
        elif self.region == "thinking":
            self._held_space = ""
        elif not self.stopped:
            self._send_content(self._stops.flush())

    def _emit(self, text: str) -> None:
        if self.region == "thinking":
            self._think(text)
        elif self.region == "call" and self._call is not None:
            self._delta.calls += self._call.feed(text)
        else:
            self._say(text)

    def _think(self, text: str) -> None:
        """Thinking without the white space between it and its tags."""
        if self._trim_thinking:
            text = text.lstrip()
            self._trim_thinking = not text
        text = self._held_space + text
        body = text.rstrip()
        self._held_space = text[len(body) :]
        self._delta.thinking += body

    def _say(self, text: str) -> None:
        if self._trim_content:
            body = text.lstrip()
            self._ledger.dropped(len(text) - len(body))
            self._trim_content = not body
            text = body
        self._send_content(self._stops.feed(text))
        self.stopped = self._stops.hit

    def _send_content(self, text: str) -> None:
        if text:
            self._delta.content += text
            self._delta.entries += self._ledger.gone(len(text))
