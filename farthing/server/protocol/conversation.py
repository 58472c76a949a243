"""Messages as clients send them to messages as the renderer takes them, and the prompt that comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from farthing.errors import FarthingError
from farthing.server.protocol.errors import invalid, unsupported
from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.schema import ChatMessage, ChatRequest, Tool
from farthing.text.chat import Rendered, complete, render


def to_messages(model: ServedModel, messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Messages for the template. Developers speak as the system; parts of a content are lines of it."""
    return [_message(model, message) for message in messages]


def _message(model: ServedModel, message: ChatMessage) -> dict[str, Any]:
    content = message.content
    if isinstance(content, list):
        content = "\n".join(part.text for part in content)
    out: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": content,
    }
    if message.role == "assistant":
        thinking = message.reasoning_content if message.reasoning_content is not None else message.reasoning
        if thinking:
            out["reasoning_content"] = thinking
        if content and not message.tool_calls:
            out["content"] = _as_written(model, content)
        if message.tool_calls:
            out["tool_calls"] = [_call(call) for call in message.tool_calls]
    elif message.role == "tool" and message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    return out


def _as_written(model: ServedModel, content: str) -> str:
    """The answer in the tags the model wrote it in; clients are shown it without them."""
    if model.tags.answer is None or "<answer>" in content:
        return content
    thought, end, answer = content.rpartition("</think>")
    return f"{thought}{end}<answer>{answer}</answer>"


def _call(call: Any) -> dict[str, Any]:
    """A past call; templates write its arguments themselves, so they get the object."""
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except ValueError:
        arguments = call.function.arguments
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }


def prompt_of(
    model: ServedModel,
    request: ChatRequest,
    tools: Sequence[Tool],
    thinking: bool,
    *,
    add_generation_prompt: bool = True,
) -> Rendered:
    """The rendered conversation, up to where the model goes on. Raises ApiError 400. Slow: call it in a thread."""
    if not model.speaks:
        raise unsupported("messages", f"{model.name} has no chat template: use /v1/completions")
    messages = to_messages(model, request.messages)
    shown = [tool.model_dump(exclude_none=True) for tool in tools] or None
    try:
        if request.continue_final_message:
            return _continued(model, messages, shown, thinking)
        return render(
            model.tokenizer,
            messages,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=thinking,
            tools=shown,
        )
    except FarthingError as problem:
        raise invalid(str(problem), "messages") from None


def _continued(
    model: ServedModel, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, thinking: bool
) -> Rendered:
    """The conversation with its last turn left open where it was cut."""
    last = messages[-1]
    if last["role"] != "assistant" or len(messages) < 2 or last.get("tool_calls"):
        raise invalid("the last message must be an assistant's text to go on with", "continue_final_message")
    thought, content = last.get("reasoning_content"), last["content"] or ""
    if model.tags.answer is not None:
        content = content.removesuffix("</answer>")
    written = (
        content
        if thought is None
        else f"<think>{thought}</think>{content}"
        if content
        else f"<think>{thought}"
    )
    prompt = render(
        model.tokenizer, messages[:-1], add_generation_prompt=True, enable_thinking=thinking, tools=tools
    )
    whole = complete(model.tokenizer, prompt, written)
    return replace(
        whole, ids=whole.ids[:-1], loss_mask=whole.loss_mask[:-1], prefill=prompt.prefill + written
    )
