"""Added tokens: the entries of a vocabulary that are matched as whole strings before any merging.

Some of them steer the model (roles, end of turn, thinking tags), some are only convenient (runs of spaces). The
`special` flag of `tokenizer.json` does not draw that line: Qwen3 and DeepSeek carry `<think>` and others
unflagged. So a token counts as *control* if it is flagged or has a bracketed shape that no prose has by accident.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_BRACKETED = re.compile(r"<[^<>\s]+>|\[[A-Z_/]+\]")

STRUCTURE = ("<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>")
"""Tags that are the assistant's own to write: genuine in what assistants say, ordinary text elsewhere."""


@dataclass(frozen=True)
class AddedToken:
    """One entry of `added_tokens`; `lstrip`/`rstrip` swallow the white space before/after the token."""

    content: str
    id: int
    special: bool
    lstrip: bool
    rstrip: bool

    @property
    def control(self) -> bool:
        """Whether text from outside must never become this token; one character alone cannot be told from text."""
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


class Control:
    """The control tokens of a vocabulary, prepared for searching; built once per tokenizer.

    `pattern` finds any of them, `steering` any but the structure tags; leftmost and then longest, as the
    `tokenizers` library matches. `heads` and `tails` are the proper beginnings and endings of them all.
    """

    def __init__(self, added: Iterable[AddedToken]) -> None:
        self.tokens = {token.content: token for token in added if token.control}
        self.pattern = _alternatives(self.tokens)
        self.steering = _alternatives(token for token in self.tokens if token not in STRUCTURE)
        self.heads = {token[:size] for token in self.tokens for size in range(1, len(token))}
        self.tails = {token[size:] for token in self.tokens for size in range(1, len(token))}
        self.longest = max(map(len, self.tokens), default=1)


def _alternatives(tokens: Iterable[str]) -> re.Pattern[str]:
    ordered = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")  # (?!) matches nowhere
