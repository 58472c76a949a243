"""Conversations to token ids and loss mask: the one renderer for training, evaluation and serving.

    messages ──break control tokens in the contents──▶ template ──▶ text ──split at genuine control tokens──▶ ids, mask

What people write never becomes a control token: before rendering, every control token spelled out in a message is
broken with a private-use character, which is taken out again once the genuine ones have been found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, Required, TypedDict

from farthing.errors import CheckpointError, DataError
from farthing.text.added import STRUCTURE
from farthing.text.neutral import Breaker, free_marker
from farthing.text.sandbox import render_template
from farthing.text.segments import Segment, common_prefix, segment
from farthing.text.tokenizer import Tokenizer

ROLES = ("system", "developer", "user", "assistant", "tool", "ipython")


class Message(TypedDict, total=False):
    """One turn. `reasoning_content`: an assistant's thinking, where it is kept apart from what it says."""

    role: Required[str]
    content: Required[str]
    reasoning_content: NotRequired[str]


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model sees it; `loss_mask` is 1 on what the assistant writes, its end token included."""

    ids: list[int]
    loss_mask: list[int]
    text: str


def render(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = False,
    enable_thinking: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Rendered:
    """Render `messages` with the tokenizer's chat template.

    `add_generation_prompt` ends with the opening of an assistant turn, for the model to go on. Those ids are a prefix
    of the ids of the same conversation with the turn in it. Raises `DataError` for messages that make no sense or that
    the template refuses, `CheckpointError` for a template that is missing or broken.
    """
    page = _Page(tokenizer, messages, enable_thinking, tools)
    segments = page.render(len(messages), add_generation_prompt)
    return page.encode(segments, page.assistant_spans(segments))


class _Page:
    """One conversation being rendered: its neutralised messages and the template's other variables."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Mapping[str, Any]],
        enable_thinking: bool,
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        if not tokenizer.chat_template:
            raise CheckpointError("the tokenizer has no chat template: add one to tokenizer_config.json")
        check_messages(messages)
        self.tokenizer = tokenizer
        said = json.dumps([list(messages), list(tools or [])], ensure_ascii=False, default=str)
        self.breaker = Breaker(tokenizer.special_tokens, free_marker(said))
        self.messages = [self.breaker.message(message) for message in messages]
        self.variables = {
            "enable_thinking": enable_thinking,
            "tools": self.breaker.value(list(tools)) if tools else None,
            **{
                f"{name}_token": tokenizer.named_token(f"{name}_token") or ""
                for name in ("bos", "eos", "pad", "unk")
            },
        }

    def render(self, count: int, add_generation_prompt: bool) -> list[Segment]:
        """The first `count` messages, rendered and cut at genuine control tokens."""
        return self._render(self.messages[:count], add_generation_prompt)

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> list[Segment]:
        text = render_template(
            self.tokenizer.chat_template,
            {**self.variables, "messages": messages, "add_generation_prompt": add_generation_prompt},
        )
        return segment(text, self.tokenizer.control_pattern, self.tokenizer.special_tokens)

    def assistant_spans(self, segments: list[Segment]) -> list[tuple[int, int]]:
        """Character ranges that the assistant wrote."""
        closing = self._closing_token()
        return [
            _span(segments, common_prefix(self.render(index, True), segments), closing)
            for index, message in enumerate(self.messages)
            if message["role"] == "assistant"
        ]

    def _closing_token(self) -> int | None:
        """The control token that ends an assistant turn, found by rendering a turn of one letter."""
        probe = self._render(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], False
        )
        for part in reversed(probe):
            if part.token_id is None and "b" in part.text:
                return None
            if part.token_id is not None:
                return part.token_id
        return None

    def encode(self, segments: list[Segment], spans: list[tuple[int, int]]) -> Rendered:
        """Ids and mask. Text is cut where a span begins, because that is where generation begins."""
        cuts = sorted({edge for span in spans for edge in span})
        ids: list[int] = []
        mask: list[int] = []
        for part in segments:
            for start, text in _cut(part, cuts):
                found = [part.token_id] if part.token_id is not None else self._plain(text)
                ids += found
                mask += [int(any(low <= start < high for low, high in spans))] * len(found)
        return Rendered(ids, mask, self.breaker.mend("".join(part.text for part in segments)))

    def _plain(self, text: str) -> list[int]:
        return self.tokenizer.encode(self.breaker.mend(text))


def check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what no template should see: an unknown role (templates may build control tokens of it), no content."""
    for index, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise DataError(f"message {index}: role {role!r} is unknown; use one of {', '.join(ROLES)}")
        if "content" not in message and not message.get("tool_calls"):
            raise DataError(f"message {index}: no content")


def _span(segments: list[Segment], start: int, closing: int | None) -> tuple[int, int]:
    """From `start` to the end of the turn: the closing token, or else the next token that is not the assistant's."""
    for part in segments:
        if part.start >= start and part.token_id is not None and part.text not in STRUCTURE:
            return start, part.end if part.token_id == closing else part.start
    return start, segments[-1].end if segments else start


def _cut(part: Segment, cuts: list[int]) -> list[tuple[int, str]]:
    if part.token_id is not None:
        return [(part.start, part.text)]
    edges = [part.start, *(cut for cut in cuts if part.start < cut < part.end), part.end]
    return [
        (low, part.text[low - part.start : high - part.start])
        for low, high in zip(edges, edges[1:], strict=False)
    ]
