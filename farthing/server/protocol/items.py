"""What POST /v1/responses takes, as pydantic models, and the chat request that it stands for.

The items of an input are a conversation told in smaller pieces: what an assistant thought, said and called are three
kinds of items here and one message there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from farthing.server.protocol.answers import ItemStatus
from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.reading import checked
from farthing.server.protocol.schema import (
    ChatRequest,
    Count,
    Loose,
    Reasoning,
    Seed,
    StreamOptions,
)

Name = Annotated[str, Field(min_length=1, max_length=64)]


class InputText(Loose):
    """A piece of a message's content; only text is served."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class ReasoningText(Loose):
    type: Literal["reasoning_text"]
    text: str


class Told(Loose):
    """What every item may carry when it comes back as it was given."""

    id: str | None = None
    status: ItemStatus | None = None


class MessageItem(Told):
    """What somebody said."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText]


class ReasoningItem(Told):
    """What an assistant thought. Whether the model sees it again is the rule of its template."""

    type: Literal["reasoning"]
    content: list[ReasoningText] | None = None
    summary: list[dict[str, Any]] | None = Field(None, description="Not read: the content is.")


class CallItem(Told):
    """A function that an assistant called."""

    type: Literal["function_call"]
    call_id: Name
    name: Name
    arguments: str


class CallOutputItem(Told):
    """What came of the call."""

    type: Literal["function_call_output"]
    call_id: Name
    output: str | list[InputText]


_KINDS = {
    "message": "MessageItem",
    "reasoning": "ReasoningItem",
    "function_call": "CallItem",
    "function_call_output": "CallOutputItem",
}


def _kind(item: Any) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return _KINDS.get(kind) if isinstance(kind, str) else None


Item = Annotated[
    Annotated[MessageItem, Tag("MessageItem")]
    | Annotated[ReasoningItem, Tag("ReasoningItem")]
    | Annotated[CallItem, Tag("CallItem")]
    | Annotated[CallOutputItem, Tag("CallOutputItem")],
    Discriminator(
        _kind,
        custom_error_type="item_kind",
        custom_error_message="items of the types " + ", ".join(_KINDS) + " are read; nothing is stored here "
        "that another item could refer to",
    ),
]


class FunctionTool(Loose):
    type: Literal["function"]
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(Loose):
    """This function and no other."""

    type: Literal["function"]
    name: str


class TextFormat(Loose):
    """The form of the answer. `regex` is an extension, as in chat completions."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None
    regex: str | None = None

    @model_validator(mode="after")
    def complete(self) -> TextFormat:
        if self.type == "json_schema" and (self.schema_ is None or self.name is None):
            raise ValueError('type "json_schema" needs name and schema')
        if self.type == "regex" and self.regex is None:
            raise ValueError('type "regex" needs regex')
        return self


class TextOptions(Loose):
    format: TextFormat | None = None


class ResponsesRequest(Loose):
    """POST /v1/responses."""

    model: str | None = Field(None, description="One of /v1/models; the first of them when not given.")
    input: str | list[Item]
    instructions: str | None = Field(None, description="A system message in front of the input.")
    max_output_tokens: Count | None = Field(None, description="Thinking and answer together.")
    max_tool_calls: Count | None = Field(None, description="Of tools that a server has; there are none here.")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=2**31, description="An extension; 0 and -1 filter nothing.")
    seed: Seed | None = Field(None, description="An extension.")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    reasoning: Reasoning | None = Field(None, description="`exclude` leaves the thinking out of the output.")
    text: TextOptions | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = Field(
        None, description="Thinking is never encrypted here: send its item back as it is."
    )
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = Field(None, description="Comes back as it is.")
    user: str | None = None

    @field_validator("input")
    @classmethod
    def some(cls, value: str | list[Item]) -> str | list[Item]:
        if not isinstance(value, str) and not value:
            raise ValueError("a text, or at least one item")
        return value

    @property
    def with_logprobs(self) -> bool:
        return "message.output_text.logprobs" in (self.include or ())


def to_chat(request: ResponsesRequest) -> ChatRequest:
    """The chat request that means the same. Raises ApiError 400."""
    instructions = [] if request.instructions is None else [_message("system", request.instructions)]
    same = {name: getattr(request, name) for name in _SAME}
    form = request.text.format if request.text else None
    wanted = {
        "messages": [*instructions, *messages_of(request.input)],
        "max_completion_tokens": request.max_output_tokens,
        "response_format": None if form is None else _form(form),
        "tools": [_function(tool.model_dump()) for tool in request.tools or ()],
        "tool_choice": _choice(request.tool_choice),
        "logprobs": request.with_logprobs,
        "top_logprobs": request.top_logprobs if request.with_logprobs else None,
    }
    return checked(ChatRequest, same | wanted)


def messages_of(items: str | Sequence[Item]) -> list[dict[str, Any]]:
    """The conversation; what an assistant thought, said and called in one go is one message."""
    if isinstance(items, str):
        return [_message("user", items)]
    out: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, CallOutputItem):
            out.append(_message("tool", item.output) | {"tool_call_id": item.call_id})
        elif isinstance(item, MessageItem) and item.role != "assistant":
            out.append(_message(item.role, item.content))
        else:
            if not out or not _goes_on(out[-1], item):
                out.append(_message("assistant", ""))
            _join(out[-1], item)
    return out


def _goes_on(turn: dict[str, Any], item: MessageItem | ReasoningItem | CallItem) -> bool:
    """Whether an item belongs to a turn that has begun: thought, then words, then calls."""
    if turn["role"] != "assistant":
        return False
    if isinstance(item, CallItem):
        return True
    if turn["content"] or "tool_calls" in turn:
        return False
    return isinstance(item, MessageItem) or "reasoning_content" not in turn


def _join(turn: dict[str, Any], item: MessageItem | ReasoningItem | CallItem) -> None:
    if isinstance(item, CallItem):
        call = _function({"name": item.name, "arguments": item.arguments}) | {"id": item.call_id}
        turn["tool_calls"] = [*turn.get("tool_calls", ()), call]
    elif isinstance(item, MessageItem):
        turn["content"] = _words(item.content)
    else:
        turn["reasoning_content"] = "".join(part.text for part in item.content or ())


def _message(role: str, content: str | Sequence[InputText]) -> dict[str, Any]:
    return {"role": role, "content": _words(content)}


def _words(content: str | Sequence[InputText]) -> str | list[dict[str, str]]:
    return content if isinstance(content, str) else [{"type": "text", "text": part.text} for part in content]


def _function(said: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {key: value for key, value in said.items() if key != "type"}}


def _form(form: TextFormat) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type, "regex": form.regex}
    return {"type": form.type, "json_schema": {"name": form.name, "schema": form.schema_}}


def _choice(choice: str | FunctionChoice | None) -> Any:
    return _function({"name": choice.name}) if isinstance(choice, FunctionChoice) else choice


# Fields that mean the same in both requests.
_SAME = (
    "model",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "reasoning",
    "parallel_tool_calls",
    "stream",
)
# Fields of the chat request -> what its errors call them here; the first that fits.
_RENAMED = [
    (r"^messages\b.*", "input"),
    (r"^max(_completion)?_tokens$", "max_output_tokens"),
    (r"^response_format\.json_schema\.", "text.format."),
    (r"^(response_format|regex)$", "text.format"),
    (r"^(tools\[\d+\])\.function\.", r"\1."),
    (r"^(reasoning_effort|enable_thinking|thinking_token_budget)$", "reasoning"),
]


def renamed(error: ApiError) -> ApiError:
    """An error of the chat request, told about the fields that were sent."""
    param = error.param or ""
    for pattern, name in _RENAMED:
        found, count = re.subn(pattern, name, param)
        if count:
            if error.message.startswith(param):
                error.message = found + error.message.removeprefix(param)
            error.param = found
            break
    return error
