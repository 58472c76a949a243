"""A model that says what it is told to say, so that the commands can be tried without training one."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from farthing.cli.models import Opened
from farthing.engine.api import Completion, Request, TokenEvent
from farthing.errors import EngineError
from farthing.text.bpe import train
from farthing.text.tokenizer import Tokenizer


class Parrot:
    """An engine that answers each request with the next of its lines, one token a step."""

    def __init__(self, tokenizer: Tokenizer, lines: list[str]) -> None:
        self.tokenizer = tokenizer
        self.lines = list(lines)
        self.asked: list[Request] = []
        self.aborted: list[str] = []
        self._left: list[int] = []
        self._said: list[int] = []

    def add(self, request: Request) -> None:
        if not self.lines:
            raise EngineError("a prompt that is longer than the model's context")
        self.asked.append(request)
        stop = list(request.params.stop_token_ids[:1])
        ids = [*self.tokenizer.encode(self.lines.pop(0), special=True), *stop]
        self._left, self._said = ids[: request.params.max_new_tokens], []

    def step(self) -> list[TokenEvent]:
        token = self._left.pop(0)
        if token == -1:
            raise KeyboardInterrupt
        self._said.append(token)
        return [
            TokenEvent(self.asked[-1].request_id, token, -0.5, None if self._left else self._completion())
        ]

    def _completion(self) -> Completion:
        request = self.asked[-1]
        reason = "stop" if self._said[-1] in request.params.stop_token_ids else "length"
        logprobs = [-0.5] * len(self._said)
        return Completion(request.request_id, list(self._said), logprobs, logprobs, reason, 0)

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    def interrupt_after(self, tokens: int) -> None:
        """Ctrl-C in the middle of the reply that was just begun."""
        self._left[tokens:] = [-1]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train(["Use 3, 5 and 8 to make 24. maybe 3*8=24 olá 推理"] * 20, 320)


@pytest.fixture
def opened(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., Opened]:
    """opened(line, line, ..., card={...}): a model that will say these lines."""

    def make(*lines: str, card: dict[str, Any] | None = None) -> Opened:
        engine: Any = Parrot(tokenizer, list(lines))
        model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=512))
        return Opened(tmp_path, model, tokenizer, engine, card or {})

    return make
