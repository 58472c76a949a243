"""Breaking control tokens that people spelled out, so that a template cannot tell them from text.

A private-use character that occurs nowhere in the conversation is put inside every control token found in a message,
and where a message begins or ends like one, so that the template's own text cannot complete it either. The character
survives rendering and is removed before encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from farthing.errors import DataError
from farthing.text.added import STRUCTURE, control_pattern

_MARKERS = (*map(chr, range(0xE000, 0xE100)), *map(chr, range(0xF0000, 0xF0100)))


class Breaker:
    """Breaks and mends the control tokens `control` with one `marker`."""

    def __init__(self, control: Iterable[str], marker: str) -> None:
        tokens = list(control)
        self.marker = marker
        self._any = control_pattern(tokens)
        self._steering = control_pattern(token for token in tokens if token not in STRUCTURE)
        self._heads = {token[:size] for token in tokens for size in range(1, len(token))}
        self._tails = {token[size:] for token in tokens for size in range(1, len(token))}
        self._longest = max(map(len, tokens), default=0)

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of `message` with nothing genuine in it, but for the assistant's own tags in what it says."""
        own = message.get("role") == "assistant"
        return {
            key: self._text(value, self._steering)
            if own and key in ("content", "reasoning_content") and isinstance(value, str)
            else self.value(value)
            for key, value in message.items()
        }

    def value(self, value: Any) -> Any:
        """The same for any JSON value: every string in it, keys included."""
        if isinstance(value, str):
            return self._text(value, self._any)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(entry) for entry in value]
        return value

    def mend(self, text: str) -> str:
        """`text` as it was meant."""
        return text.replace(self.marker, "")

    def _text(self, text: str, pattern: re.Pattern[str]) -> str:
        # Overlapping spellings ("<<|end|>", "<|a<|a|>") cannot hide behind each other: a found token is broken behind
        # its first character and the search goes on right there.
        pieces: list[str] = []
        at = 0
        while found := pattern.search(text, at):
            pieces.append(text[at : found.start() + 1] + self.marker)
            at = found.start() + 1
        return self._ends("".join(pieces) + text[at:])

    def _ends(self, text: str) -> str:
        reach = min(len(text), self._longest - 1)
        for size in range(reach, 0, -1):
            if text[-size:] in self._heads:
                cut = len(text) - size + 1
                text = text[:cut] + self.marker + text[cut:]
                break
        if any(text[:size] in self._tails for size in range(1, min(len(text), self._longest))):
            text = self.marker + text
        return text


def free_marker(text: str) -> str:
    """A private-use character that does not occur in `text`."""
    for marker in _MARKERS:
        if marker not in text:
            return marker
    raise DataError("a conversation uses every private-use character there is; farthing needs one of them for itself")
