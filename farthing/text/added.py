"""Added tokens: the entries of a vocabulary that are matched as whole strings before any merging.

Some of them steer the model (roles, end of turn, thinking tags), some are only convenient (runs of spaces). The
`special` flag of `tokenizer.json` does not draw that line: Qwen3 and DeepSeek carry `<think>` and others unflagged. So
a token counts as *control* if it is flagged or has the bracketed shape that no prose has by accident.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_BRACKETED = re.compile(r"<[^<>\s]+>|\[[A-Z_/ ]+\]")

STRUCTURE = ("<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>")
"""Tags that are the assistant's own to write: genuine inside assistant messages, ordinary text elsewhere."""


@dataclass(frozen=True)
class AddedToken:
    """One entry of `added_tokens`; `lstrip`/`rstrip` swallow white space before/after the token."""

    content: str
    id: int
    special: bool
    lstrip: bool
    rstrip: bool

    @property
    def control(self) -> bool:
        """A single character is never control: it could not be told from text."""
        return len(self.content) > 1 and (self.special or _BRACKETED.fullmatch(self.content) is not None)


def read_added(definition: Mapping[str, Any]) -> tuple[AddedToken, ...]:
    """The added tokens of a parsed `tokenizer.json`, in the order of the file."""
    return tuple(
        AddedToken(
            content=entry["content"],
            id=entry["id"],
            special=bool(entry.get("special", False)),
            lstrip=bool(entry.get("lstrip", False)),
            rstrip=bool(entry.get("rstrip", False)),
        )
        for entry in definition.get("added_tokens") or []
    )


def control_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """One group matching any of `tokens`, leftmost and then longest, as the `tokenizers` library does."""
    ordered = sorted(tokens, key=lambda token: (-len(token), token))
    if not ordered:
        return re.compile(r"((?!))")  # matches nowhere
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")")
