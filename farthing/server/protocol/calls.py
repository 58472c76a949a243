"""A tool call as the model writes it, read while it is written: {"name": .., "arguments": {..}}.

The name is given out when it is complete, the arguments piece by piece as they come, exactly as written.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')


@dataclass(frozen=True)
class CallDelta:
    """A piece of call number `index`; `name` comes once, with the first piece."""

    index: int
    name: str | None
    arguments: str


class CallParser:
    """One call. The text must have the form that the grammar of tool calls gives it; another form gives no call."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._head = ""
        self._named = False
        self._begun = False
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._over = False

    def feed(self, text: str) -> list[CallDelta]:
        """Pieces that became certain."""
        out: list[CallDelta] = []
        if not self._named:
            self._head += text
            found = _HEAD.match(self._head)
            if found is None:
                return out
            self._named = True
            out.append(CallDelta(self.index, str(json.loads(found[1])), ""))
            text = self._head[found.end() :]
        piece = self._arguments(text)
        if piece:
            out.append(CallDelta(self.index, None, piece))
        return out

    def finish(self) -> list[CallDelta]:
        """The call is over; nothing was held back."""
        return []

    def _arguments(self, text: str) -> str:
        """As much of `text` as belongs to the object of arguments."""
        if self._over:
            return ""
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        for at, character in enumerate(text):
            if self._in_string:
                self._string(character)
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._over = True
                    return text[: at + 1]
        return text

    def _string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False
