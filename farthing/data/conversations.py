"""Conversations to learn from: JSONL rows, and each assistant turn of them as the tokens a model would have written.

A row holds `messages`, or `prompt` and `completion`, each a text or a list of messages. What is trained on is one
assistant turn at a time behind the prompt that the chat template gives for it, so the thinking of earlier turns is
there or not there exactly as it will be when the model is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from farthing.config import nearest
from farthing.errors import DataError
from farthing.tasks.rows import Row, read_rows
from farthing.text.chat import check_messages, complete, render
from farthing.text.tokenizer import Tokenizer

Messages = list[dict[str, Any]]
_REASONING = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True)
class Conversation:
    """Messages with at least one assistant turn, and where they stand (file:line)."""

    messages: Messages
    place: str

    @property
    def question(self) -> str:
        """What stands before the first answer: equal questions are held out together or not at all."""
        first = next(i for i, message in enumerate(self.messages) if message["role"] == "assistant")
        return json.dumps([m["content"] for m in self.messages[:first]], ensure_ascii=False)


class Turn(NamedTuple):
    """One assistant turn behind its prompt: the first `prompt_len` tokens are read, the others are trained on."""

    token_ids: list[int]
    prompt_len: int


def read_conversations(path: str | Path, columns: Mapping[str, str]) -> list[Conversation]:
    """Every conversation of a JSONL file. `columns` says which columns hold "messages", or "prompt" and "completion",
    where they are called otherwise. Raises DataError naming file and line."""
    found = [_conversation(row, columns) for row in read_rows(path)]
    if not found:
        raise DataError(f"{path}: no conversations in it")
    return found


def _conversation(row: Row, columns: Mapping[str, str]) -> Conversation:
    named = "messages" in columns or (not columns and "messages" in row.values)
    wanted = (("messages", ""),) if named else (("prompt", "user"), ("completion", "assistant"))
    messages: Messages = []
    for what, role in wanted:
        messages += _messages(row, what, columns.get(what, what), role)
    try:
        check_messages(messages)
    except DataError as problem:
        raise DataError(f"{row.place}: {problem}") from None
    _check_turns(messages, row.place)
    return Conversation(messages, row.place)


def _messages(row: Row, what: str, column: str, role: str) -> Messages:
    """The messages in a column; a text there is one message of `role`."""
    value = row.values.get(column)
    if isinstance(value, str) and role:
        return [{"role": role, "content": value}]
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        return [dict(message) for message in value]
    kinds = "a text or a list of messages" if role else "a list of messages"
    if column in row.values:
        raise DataError(f'{row.place}: column "{column}" must hold {kinds}')
    close = nearest(column, row.values)
    known = f'did you mean {what} = "{close}"?' if close else f"the row has: {', '.join(row.values)}"
    raise DataError(f'{row.place}: there is no column "{column}"; {known}')


def _check_turns(messages: Messages, place: str) -> None:
    if messages[0]["role"] == "assistant":
        raise DataError(f"{place}: the first message is the assistant's, which answers nothing")
    if all(message["role"] != "assistant" for message in messages):
        raise DataError(f"{place}: no assistant message, so there is nothing to learn")
    for index, message in enumerate(messages):
        if message.get("tool_calls"):
            raise DataError(f"{place}: message {index}: tool calls cannot be trained on; leave the row out")
        if not isinstance(message["content"], str):
            raise DataError(f"{place}: message {index}: content must be text")


def turns(tokenizer: Tokenizer, conversation: Conversation) -> Iterator[Turn]:
    """Each assistant turn as a row of tokens, its end token included."""
    for index, message in enumerate(conversation.messages):
        if message["role"] != "assistant":
            continue
        written = written_out(message)
        thinks = written.lstrip().startswith("<think>")
        before = conversation.messages[:index]
        try:
            prompt = render(tokenizer, before, add_generation_prompt=True, enable_thinking=thinks)
        except DataError as problem:
            raise DataError(f"{conversation.place}: {problem}") from None
        whole = complete(tokenizer, prompt, _behind(prompt.prefill, written, thinks))
        yield Turn(whole.ids, len(prompt.ids))


def written_out(message: Mapping[str, Any]) -> str:
    """An assistant's whole turn: thinking that is kept apart is put in front, in the form that the templates of Qwen3
    and DeepSeek-R1 share."""
    content = str(message["content"])
    thinking = next((message[key] for key in _REASONING if message.get(key)), None)
    return (
        content if thinking is None else f"<think>\n{str(thinking).strip()}\n</think>\n\n{content.lstrip()}"
    )


def _behind(prefill: str, written: str, thinks: bool) -> str:
    """The turn so that it goes on from what the template begins it with: thinking that was opened for it is not
    opened again, and is closed at once where the turn has none."""
    opened = "<think>" in prefill and "</think>" not in prefill
    if not opened or written.startswith(prefill):
        return written
    if not thinks:
        return f"</think>\n\n{written}"
    return prefill + written.lstrip().removeprefix("<think>").lstrip("\n")
