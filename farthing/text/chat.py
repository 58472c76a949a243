"""Conversations to token ids and loss mask: the one renderer for training, evaluation and serving.

    messages ─ break control tokens in the contents ─▶ template ─▶ text ─ split at genuine control tokens ─▶ ids, mask

What people write never becomes a control token: before rendering, every control token spelled out in a message is
broken with a private-use character, which is taken out again once the genuine ones have been found.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NotRequired, Required, TypedDict

from farthing.errors import CheckpointError, DataError
from farthing.text.neutral import Breaker, free_characters
from farthing.text.sandbox import DAY, render_template
from farthing.text.segments import Page, Segment, cut, take_apart
from farthing.text.spans import Rendering, Span, assistant_spans, closing_token, generation_prompt, prefill
from farthing.text.tokenizer import Position, Tokenizer

ROLES = ("system", "developer", "user", "assistant", "tool", "ipython")
_REASONING = ("reasoning_content", "thinking", "reasoning")


class Message(TypedDict, total=False):
    """One turn. `reasoning_content`: an assistant's thinking, where it is kept apart from what it says."""

    role: Required[str]
    content: Required[str]
    reasoning_content: NotRequired[str]


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model sees it.

    `loss_mask`, as long as `ids`, is 1 on what the assistant writes, its end token included. `prefill`: how the
    generation prompt begins the assistant's turn for it (`"<think>\\n"`), the empty string where it does not; a
    completion is judged with it in front.
    """

    ids: list[int]
    loss_mask: list[int]
    text: str
    prefill: str = ""


def render(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = False,
    enable_thinking: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    now: datetime.datetime = DAY,
) -> Rendered:
    """Render `messages` with the tokenizer's chat template.

    `add_generation_prompt` ends with the opening of an assistant turn, for the model to go on; for a turn that begins
    as the prompt does, those ids are a prefix of the ids of the conversation with the turn in it. `now` is what
    templates that tell the date are told. Raises `DataError` for messages that make no sense or that the template
    refuses, `CheckpointError` for a template that is missing or broken.
    """
    conversation = _Conversation(tokenizer, messages, enable_thinking, tools, now)
    page = conversation.page(conversation.messages, add_generation_prompt)
    prompt = conversation.prompt if add_generation_prompt else Page("", ())
    return conversation.encode(page, conversation.spans(page, add_generation_prompt), prefill(prompt))


def as_prompt(tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]]) -> Rendered:
    """What a model goes on from when it is asked: `messages` up to and including the opening of its turn.

    A base model without a chat template gets their words as plain text, a blank line between messages, behind the token
    that opens its documents; roles are lost, and control tokens spelled out stay text.
    """
    if tokenizer.chat_template:
        return render(tokenizer, messages, add_generation_prompt=True)
    check_messages(messages)
    text = "\n\n".join(str(message["content"]) for message in messages)
    ids = [*tokenizer.start_ids, *tokenizer.encode(text)]
    return Rendered(ids, [0] * len(ids), text)


def complete(tokenizer: Tokenizer, prompt: Rendered, completion: str) -> Rendered:
    """The conversation of `prompt`, rendered with a generation prompt, with the assistant's turn written out.

    For training on a turn with its thinking whatever the template does to finished turns (DeepSeek's drops the
    thinking from all of them). `completion` is the whole turn; what the prompt already holds of it is not repeated.
    Structure tags in it are genuine, other control tokens are text. The turn ends with the tokenizer's `eos_id`.
    """
    if tokenizer.eos_id is None:
        raise CheckpointError("the tokenizer names no eos_token, so a turn cannot be ended")
    written = completion.removeprefix(prompt.prefill)
    marker = free_characters(1, written)[0]
    breaker = Breaker(tokenizer.control, marker)
    said = breaker.message({"role": "assistant", "content": written})["content"]
    ids: list[int] = []
    position: Position = "after_control" if _ends_with_control(tokenizer, prompt) else "after_text"
    for segment in take_apart(said, tokenizer.control).segments:
        ids += _encoded(tokenizer, breaker, segment, position)
        position = "after_control"
    ids.append(tokenizer.eos_id)
    text = prompt.text + written + tokenizer.decode([tokenizer.eos_id])
    return Rendered(prompt.ids + ids, prompt.loss_mask + [1] * len(ids), text)


def stop_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens at which generation ends: the tokenizer's `eos_id` and what its template closes a turn with."""
    found = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    if tokenizer.chat_template:
        exchange: list[Message] = [{"role": "user", "content": "a"}]
        conversation = _Conversation(tokenizer, exchange, True, None, DAY)
        closing = closing_token(conversation.page, conversation.stand_in)
        found += [] if closing is None or closing in found else [closing]
    return tuple(found)


class _Conversation:
    """A conversation being rendered: its neutralised messages and the other variables of the template."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Mapping[str, Any]],
        enable_thinking: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        now: datetime.datetime,
    ) -> None:
        if not tokenizer.chat_template:
            raise CheckpointError("the tokenizer has no chat template: add one to tokenizer_config.json")
        check_messages(messages)
        self.tokenizer = tokenizer
        marker, self.stand_in = free_characters(2, list(messages), list(tools or []), tokenizer.chat_template)
        self.breaker = Breaker(tokenizer.control, marker)
        self.messages = [self.breaker.message(_with_reasoning(message)) for message in messages]
        self.now = now
        self.variables = {
            **tokenizer.named_tokens,
            # One switch under the names that templates read: Qwen3's and DeepSeek-V3.1's.
            "enable_thinking": enable_thinking,
            "thinking": enable_thinking,
            "tools": self.breaker.value(list(tools)) if tools else None,
            "documents": None,
        }

    def page(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool) -> Page:
        """Messages rendered and cut at genuine control tokens."""
        text = render_template(
            self.tokenizer.chat_template,
            {
                **self.variables,
                "messages": [dict(message) for message in messages],
                "add_generation_prompt": add_generation_prompt,
            },
            now=self.now,
        )
        return take_apart(text, self.tokenizer.control)

    @cached_property
    def prompt(self) -> Page:
        """The generation prompt of the whole conversation."""
        return generation_prompt(self.page, self.messages)

    def spans(self, page: Page, add_generation_prompt: bool) -> list[Span]:
        """What the assistant wrote."""
        if all(message["role"] != "assistant" for message in self.messages):
            return []
        closing = closing_token(self.page, self.stand_in)
        if closing is None:
            closing = self.tokenizer.eos_id
        rendering = Rendering(self.page, self.messages, add_generation_prompt, page, self.stand_in, closing)
        return assistant_spans(rendering)

    def encode(self, page: Page, spans: Sequence[Span], prefilled: str) -> Rendered:
        """Ids and mask. Text is cut where a span begins, because that is where generation begins."""
        edges = [edge for span in spans for edge in span]
        ids: list[int] = []
        mask: list[int] = []
        position: Position = "start"
        for segment in page.segments:
            for piece in cut(segment, edges):
                found = _encoded(self.tokenizer, self.breaker, piece, position)
                ids += found
                mask += [int(any(low <= piece.start < high for low, high in spans))] * len(found)
                position = "after_text"
            if segment.token_id is not None:
                position = "after_control"
        return Rendered(ids, mask, self.breaker.mend(page.text), self.breaker.mend(prefilled))


def _encoded(tokenizer: Tokenizer, breaker: Breaker, piece: Segment, position: Position) -> list[int]:
    if piece.token_id is not None:
        return [piece.token_id]
    return tokenizer.encode(breaker.mend(piece.text), position=position)


def _ends_with_control(tokenizer: Tokenizer, prompt: Rendered) -> bool:
    return bool(prompt.ids) and prompt.ids[-1] in tokenizer.special_tokens.values()


def _with_reasoning(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Thinking under any of its names is shown under those that templates read, as `transformers` does."""
    thinking = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    return message if thinking is None else {"thinking": thinking, **message, "reasoning_content": thinking}


def check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what no template should see: an unknown role (templates build control tokens of it), no content."""
    if not messages:
        raise DataError("a conversation needs at least one message")
    for index, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise DataError(f"message {index}: role {role!r} is unknown; use one of {', '.join(ROLES)}")
        if "content" not in message:
            raise DataError(f"message {index}: no content")
        if message["content"] is None and not message.get("tool_calls"):
            raise DataError(f'message {index}: content is null; write "" for an empty message')
