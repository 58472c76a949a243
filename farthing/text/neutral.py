"""Breaking control tokens that people spelled out, so that neither a template nor the tokenizer takes them for real.

A private-use character that occurs nowhere in the conversation is put inside every control token found in a message,
and where a message begins or ends like one, so that the text around it cannot complete it either. The character
survives rendering and is taken out again before encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from farthing.errors import DataError
from farthing.text.added import Control

_MARKERS = (*map(chr, range(0xE000, 0xE100)), *map(chr, range(0xF0000, 0xF0100)))
_OWN_WORDS = ("content", "reasoning_content", "reasoning", "thinking")


class Breaker:
    """Breaks the control tokens in what a conversation says, with one marker, and mends them again."""

    def __init__(self, control: Control, marker: str) -> None:
        self.marker = marker
        self._control = control

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of `message` with nothing genuine in it but, where an assistant speaks, its own structure tags."""
        own = _OWN_WORDS if message.get("role") == "assistant" else ()
        return {
            key: self._broken(value, self._control.steering)
            if key in own and isinstance(value, str)
            else self.value(value)
            for key, value in message.items()
        }

    def value(self, value: Any) -> Any:
        """Any JSON value with every string in it broken, keys included; other objects become their names."""
        if isinstance(value, str):
            return self._broken(str(value), self._control.pattern)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(entry) for entry in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise DataError(f"a conversation holds text, numbers, lists and objects, not {type(value).__name__}")

    def mend(self, text: str) -> str:
        """`text` as it was meant."""
        return text.replace(self.marker, "")

    def _broken(self, text: str, pattern: re.Pattern[str]) -> str:
        # The search goes on behind the first character of what was found, so that spellings that overlap
        # ("<|a<|a|>") cannot hide behind each other.
        pieces: list[str] = []
        at = 0
        while found := pattern.search(text, at):
            pieces.append(text[at : found.start() + 1] + self.marker)
            at = found.start() + 1
        return self._edges("".join(pieces) + text[at:])

    def _edges(self, text: str) -> str:
        reach = min(len(text), self._control.longest - 1)
        for size in range(reach, 0, -1):
            if text[-size:] in self._control.heads:
                # Behind the first character: never at the very end, where a template may trim white space.
                cut = len(text) - size + 1
                text = text[:cut] + self.marker + text[cut:]
                break
        if any(text[:size] in self._control.tails for size in range(1, reach + 1)):
            text = self.marker + text
        return text


def free_characters(count: int, *values: Any) -> list[str]:
    """`count` private-use characters that occur in none of the strings within `values`."""
    used = {character for text in strings(values) if not text.isascii() for character in text}
    free = [marker for marker in _MARKERS if marker not in used]
    if len(free) < count:
        raise DataError(
            "a conversation uses nearly every private-use character; farthing needs a few for itself"
        )
    return free[:count]


def strings(value: Any) -> Iterator[str]:
    """Every string within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from strings(key)
            yield from strings(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from strings(entry)
