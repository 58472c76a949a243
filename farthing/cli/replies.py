"""One reply as it is written: ids from the engine, text from the tokenizer, regions from the parser."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from farthing.cli.models import Opened
from farthing.engine.api import Completion, Request, SamplingParams
from farthing.errors import UserError
from farthing.text.chat import render
from farthing.text.regions import Region, RegionParser, split

_REQUEST = "reply"
# What a template may write of the assistant's turn: a thought that is begun, or one that is over before it began.
_OPENED = re.compile(r"<think>\s*(</think>\s*)?$")


@dataclass(frozen=True)
class Prompt:
    """What the model goes on from. `opened` is the part of its own turn that the prompt already holds."""

    ids: list[int]
    text: str
    opened: str = ""


def chat_prompt(model: Opened, messages: Sequence[Any], *, enable_thinking: bool = True) -> Prompt:
    """A conversation, rendered up to where the assistant begins to write."""
    rendered = render(model.tokenizer, messages, add_generation_prompt=True, enable_thinking=enable_thinking)
    opened = _OPENED.search(rendered.text)
    return Prompt(rendered.ids, rendered.text, opened[0] if opened else "")


def text_prompt(model: Opened, text: str) -> Prompt:
    """Plain text to continue. Control tokens spelled out in it stay text."""
    ids = model.tokenizer.encode(text)
    bos = model.tokenizer.bos_id
    return Prompt([bos, *ids] if bos is not None and ids[:1] != [bos] else ids, text)


def longest_reply(model: Opened, prompt_tokens: int, asked: int | None) -> int:
    """How many tokens may follow the prompt: what was asked for, else what the model is used to and has room for.

    Raises UserError where the context is too short for either.
    """
    room = model.context - prompt_tokens
    if room < 1:
        raise UserError(
            f"the prompt has {prompt_tokens} tokens and the model's context {model.context}: shorten it"
        )
    if asked is not None and asked > room:
        raise UserError(
            f"{asked} new tokens do not fit behind a prompt of {prompt_tokens} in {model.context}; {room} do"
        )
    return asked or min(model.max_new_tokens, room)


class Reply:
    """One turn being written: take it once, as `pieces` or as `regions`; then `text` and `completion` are whole.

    `text` is the assistant's turn without its end token, with what the prompt had already opened for it.
    """

    def __init__(
        self, model: Opened, prompt: Prompt, *, max_new_tokens: int | None = None, **params: Any
    ) -> None:
        self.prompt = prompt
        self.text = prompt.opened
        self.completion: Completion | None = None
        self._model = model
        self._stops = model.stop_token_ids
        longest = longest_reply(model, len(prompt.ids), max_new_tokens)
        self._params = SamplingParams(max_new_tokens=longest, stop_token_ids=self._stops, **params)

    def regions(self) -> Iterator[tuple[Region, str]]:
        """The turn as (region, text) pieces, the tags themselves left out."""
        parser = RegionParser()
        parser.feed(self.prompt.opened)
        for piece in self.pieces():
            yield from parser.feed(piece)
        yield from parser.finish()

    def pieces(self) -> Iterator[str]:
        """The turn as it comes. A reply given up half-way (Ctrl-C) is taken out of the engine."""
        engine, decoder = self._model.engine, self._model.tokenizer.stream()
        engine.add(Request(tuple(self.prompt.ids), self._params, request_id=_REQUEST))
        try:
            while self.completion is None:
                for event in engine.step():
                    self.completion = event.completion
                    if event.token_id not in self._stops:
                        yield self._said(decoder.push(event.token_id))
            yield self._said(decoder.flush())
        finally:
            if self.completion is None:
                engine.abort(_REQUEST)

    def _said(self, piece: str) -> str:
        self.text += piece
        return piece

    def as_json(self) -> dict[str, Any]:
        """The finished reply as an object for other programs."""
        assert self.completion is not None, "the reply is still being written"
        parts = split(self.text)
        return {
            "prompt": self.prompt.text,
            "text": self.text,
            "thinking": parts.thinking,
            "answer": parts.answer,
            "finish_reason": self.completion.finish_reason,
            "prompt_tokens": len(self.prompt.ids),
            "tokens": len(self.completion.token_ids),
            "token_ids": self.completion.token_ids,
            "logprobs": self.completion.logprobs,
        }
