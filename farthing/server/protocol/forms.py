"""The form an answer must have, as a grammar: JSON, a JSON schema, a regular expression, tool calls.

Judged here, before the engine sees it: size, depth, and by compiling it once, in a thread, within bounds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from farthing.engine.grammar import from_lark, from_regex, from_schema
from farthing.server.protocol.errors import invalid, unsupported
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.schema import ChatRequest, ResponseFormat, Tool, ToolChoice

# As models write JSON: a space behind colons and commas, no other white space.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def offered_tools(model: ServedModel, request: ChatRequest, limits: Limits) -> list[Tool]:
    """The tools that may be called in this turn; raises ApiError 400."""
    tools = request.tools or []
    if not tools:
        if isinstance(request.tool_choice, ToolChoice) or request.tool_choice == "required":
            raise invalid("tool_choice asks for a call, and there are no tools", "tool_choice")
        return []
    if len(tools) > limits.tools:
        raise invalid(f"tools: at most {limits.tools}", "tools")
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise invalid("tools: two functions have the same name", "tools")
    if isinstance(request.tool_choice, ToolChoice) and request.tool_choice.function.name not in names:
        raise invalid(f"tool_choice: there is no tool {request.tool_choice.function.name!r}", "tool_choice")
    for index, tool in enumerate(tools):
        param = f"tools[{index}].function.parameters"
        if (tool.function.parameters or {}).get("type", "object") != "object":
            raise invalid(f'{param}: arguments are an object: {{"type": "object", ..}}', param)
        _check_schema(tool.function.parameters or {}, param, limits)
    if request.tool_choice == "none":
        return []
    if not model.calls_tools:
        raise unsupported(
            "tools", f"{model.name} was not made to call tools: its template does not show them"
        )
    return tools


def grammar_of(model: ServedModel, request: ChatRequest, tools: Sequence[Tool], limits: Limits) -> str | None:
    """The grammar of the answer, None where it may be anything; raises ApiError 400. Not compiled yet."""
    form = request.response_format
    if request.regex is not None:
        if form is not None and form.type != "text":
            raise invalid("regex and response_format contradict each other", "regex")
        form = ResponseFormat(type="regex", regex=request.regex)
    if tools:
        return from_lark(_tool_grammar(model, request, tools, form, limits))
    if form is None or form.type == "text":
        return None
    if form.type == "regex":
        return from_regex(checked_regex(form.regex or "", limits))
    return from_schema(_styled(_schema_of(form, limits)))


def _schema_of(form: ResponseFormat, limits: Limits) -> dict[str, Any]:
    if form.json_schema is None or form.type == "json_object":
        return {"type": "object"}
    _check_schema(form.json_schema.schema_, "response_format.json_schema.schema", limits)
    return form.json_schema.schema_


def checked_regex(pattern: str, limits: Limits) -> str:
    """A pattern that is not too long; raises ApiError 400."""
    if len(pattern.encode()) > limits.schema_bytes:
        raise invalid(f"regex: at most {limits.schema_bytes} bytes", "regex")
    return pattern


def _check_schema(schema: dict[str, Any], param: str, limits: Limits) -> None:
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except ValueError:
        raise invalid(f"{param}: a number in it is not finite", param) from None
    if size > limits.schema_bytes:
        raise invalid(f"{param}: at most {limits.schema_bytes} bytes, not {size}", param)
    if _depth(schema) > limits.schema_depth:
        raise invalid(f"{param}: nested more than {limits.schema_depth} deep", param)


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        inner = [list(item.values()) if isinstance(item, dict) else item for item in level]
        level = [child for children in inner if isinstance(children, list) for child in children]
    return deepest


def _styled(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "x-guidance": _STYLE}


def _tool_grammar(
    model: ServedModel,
    request: ChatRequest,
    tools: Sequence[Tool],
    form: ResponseFormat | None,
    limits: Limits,
) -> str:
    """Text, then calls in the tags of the vocabulary, as Lark.

    A call may come only where the tools may be called; where one is demanded, there is no text before it.
    """
    choice = request.tool_choice
    named = [
        tool
        for tool in tools
        if isinstance(choice, ToolChoice) and tool.function.name == choice.function.name
    ]
    allowed = named or list(tools)
    many = "(SPACE call)*" if request.parallel_tool_calls is not False and not named else ""
    demanded = bool(named) or choice == "required"
    lines = ["%llguidance {}"]
    if demanded:
        lines.append(f"start: call {many}")
    elif form is not None and form.type != "text":
        body = (
            f"/{_lark_regex(form)}/"
            if form.type == "regex"
            else f"%json {json.dumps(_styled(_schema_of(form, limits)))}"
        )
        lines += [f"start: call {many} | answer", f"answer: {body}"]
    else:
        lines.append(f"start: TEXT | TEXT call {many}")
    lines += [
        r"TEXT: /(.|\n)*/",
        r"SPACE: /\n?/",
        f"call: <[{model.tags.call}]> body <[{model.tags.call_end}]>",
        "body: " + " | ".join(f"tool_{index}" for index in range(len(allowed))),
    ]
    lines += [_one_tool(index, tool) for index, tool in enumerate(allowed)]
    return "\n".join(lines) + "\n"


def _lark_regex(form: ResponseFormat) -> str:
    return (form.regex or "").replace("/", r"\/")


def _one_tool(index: int, tool: Tool) -> str:
    head = json.dumps(f'\n{{"name": "{tool.function.name}", "arguments": ')
    parameters = tool.function.parameters or {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
    schema = json.dumps(_styled({"type": "object", **parameters}))
    return f'tool_{index}: {head} %json {schema} "}}\\n"'


class Judge:
    """Says whether a grammar can be used, and remembers what it said."""

    def __init__(self, limits: Limits, remembered: int = 256) -> None:
        self._limits = limits
        self._remembered = remembered
        self._known: OrderedDict[tuple[str, str], str | None] = OrderedDict()
        self._turn = asyncio.Semaphore(2)

    async def check(self, model: ServedModel, grammar: str, param: str) -> float:
        """Seconds it took; raises ApiError 400 for a grammar that cannot be used."""
        key = (model.name, grammar)
        began = time.monotonic()
        if key not in self._known:
            async with self._turn:
                try:
                    complaint = await asyncio.wait_for(
                        asyncio.to_thread(model.grammars.complaint, grammar), self._limits.grammar_seconds
                    )
                except TimeoutError:
                    complaint = f"it took longer than {self._limits.grammar_seconds:g} s to compile"
            self._known[key] = complaint
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        if self._known[key] is not None:
            raise invalid(f"{param}: {self._known[key]}", param, "unsupported_schema")
        return time.monotonic() - began
