"""One request in flight, as the web process sees it: its tokens as they come, and what may end it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Line(Protocol):
    """What leads to the engine."""

    def send(self, message: Mapping[str, Any]) -> None: ...

    def forget(self, generation: Generation) -> None: ...


class EngineGone(Exception):
    """The engine process has died or was killed; what it was computing is lost."""

    code = "engine_restarting"


class ModelAbsent(EngineGone):
    """The engine is well, but this model cannot be loaded."""

    code = "model_failed"


class EngineRefused(Exception):
    """The engine could not carry out this one request."""


@dataclass
class Token:
    """One token as it came; `more` holds what is not there every time: "top", "end", "cached", "thought", "prompt",
    "embedding", and with the first one "prefill", the seconds since the request got its place."""

    token_id: int
    logprob: float
    more: dict[str, Any] | None = None


@dataclass(eq=False)
class Generation:
    """One request in flight. `fresh` holds what came and was not taken; `wake` is set whenever something comes."""

    link: Line
    name: str
    model: int
    wake: asyncio.Event
    prompt_tokens: int
    submitted: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    seated: float | None = None
    tokens: int = 0
    fresh: deque[Token] = field(default_factory=deque)
    ended: bool = False
    problem: Exception | None = None

    def abort(self) -> None:
        """Stop it, wherever it is. Harmless when it has ended."""
        if not self.ended:
            self.ended = True
            self.link.forget(self)
            self.link.send({"op": "abort", "model": self.model, "id": self.name})

    def close_thought(self) -> None:
        """End the thinking now; the answer follows."""
        self.link.send({"op": "close_thought", "model": self.model, "id": self.name})

    def take(self) -> list[Token]:
        """What has come since the last call. Raises what went wrong, once everything before it was taken."""
        taken = list(self.fresh)
        self.fresh.clear()
        if not taken and self.problem is not None:
            raise self.problem
        return taken

    def push(self, row: list[Any], now: float) -> None:
        """A token has come."""
        more = row[3] if len(row) > 3 else None
        self.tokens += 1
        self.fresh.append(Token(row[1], row[2], more))
        if more is not None and "end" in more:
            self.ended = True
        if self.first_token is None:
            self.first_token = now
            self.seated = max(self.submitted, now - (more or {}).get("prefill", 0.0))
        self.wake.set()

    def fail(self, problem: Exception) -> None:
        self.ended, self.problem = True, problem
        self.wake.set()
