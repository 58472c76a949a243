"""Items of an output from what the parser of turns gives, without a model; and items of an input as messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from farthing.server.protocol.calls import CallDelta
from farthing.server.protocol.errors import ApiError, invalid, unavailable
from farthing.server.protocol.items import ResponsesRequest, messages_of, renamed
from farthing.server.protocol.output import ResponseView
from farthing.server.protocol.reading import checked
from farthing.server.protocol.turn import Delta

MODEL: Any = SimpleNamespace(name="m", fingerprint="fp")
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def thought(text: str) -> Delta:
    return Delta(thinking=text)


def said(text: str) -> Delta:
    return Delta(content=text)


def called(index: int) -> Delta:
    return Delta(calls=[CallDelta(index, "f", ""), CallDelta(index, None, "{"), CallDelta(index, None, "}")])


def written(*deltas: Delta, reason: str = "stop", shown: bool = True) -> list[tuple[str, str]]:
    """(type, text) of every item of the output."""
    view = ResponseView(MODEL, {}, shown=shown, with_logprobs=False)
    for delta in deltas:
        view.add(delta)
    view.finish(reason, USAGE)
    output = view.response()["output"]
    return [
        (item["type"], item["arguments"] if "arguments" in item else item["content"][0]["text"])
        for item in output
    ]


@pytest.mark.parametrize(
    ("deltas", "items"),
    [
        ([thought("a"), thought("b"), said("c"), said("d")], [("reasoning", "ab"), ("message", "cd")]),
        (
            [said("a"), thought("b"), said(" c")],
            [("message", "a"), ("reasoning", "b"), ("message", " c")],
        ),
        ([thought("a"), called(0)], [("reasoning", "a"), ("function_call", "{}")]),
        ([called(0), said("\n"), called(1)], [("function_call", "{}"), ("function_call", "{}")]),
        ([called(0), said("\n"), said(" a ")], [("function_call", "{}"), ("message", "a ")]),
        ([said(" a"), called(0)], [("message", " a"), ("function_call", "{}")]),
        ([thought("a")], [("reasoning", "a"), ("message", "")]),
        ([], [("message", "")]),
    ],
)
def test_the_table_of_outputs(deltas: list[Delta], items: list[tuple[str, str]]) -> None:
    assert written(*deltas) == items


def test_a_thought_that_is_not_shown_leaves_no_gap() -> None:
    assert written(said("a"), thought("b"), said("c"), shown=False) == [("message", "ac")]
    assert written(thought("a"), reason="length", shown=False) == []


def test_only_the_item_that_was_being_written_is_incomplete() -> None:
    view = ResponseView(MODEL, {}, shown=True, with_logprobs=False)
    view.add(thought("a"))
    view.add(said("b"))
    last = view.finish("length", USAGE)[-1]
    assert last["type"] == "response.incomplete"
    assert [item["status"] for item in last["response"]["output"]] == ["completed", "incomplete"]
    assert last["response"]["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 8,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (unavailable("gone", "engine_restarting"), "server_error"),
        (invalid("the request could not be carried out"), "invalid_prompt"),
        (ApiError(429, "too much"), "rate_limit_exceeded"),
    ],
)
def test_a_failure_is_the_last_word_and_keeps_what_was_written(error: ApiError, code: str) -> None:
    view = ResponseView(MODEL, {}, shown=True, with_logprobs=False)
    view.add(said("half"))
    last = view.fail(error)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {"code": code, "message": error.message}
    assert last["response"]["output"][0]["content"][0]["text"] == "half"


def test_an_assistants_turn_is_one_message_and_begins_anew_where_it_has_to() -> None:
    def reasoning(text: str) -> dict[str, Any]:
        return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}

    def call(name: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": name, "name": "f", "arguments": "{}"}

    items = [
        {"role": "user", "content": "q"},
        reasoning("t1"),
        {"role": "assistant", "content": [{"type": "output_text", "text": "a1", "annotations": []}]},
        call("c1"),
        call("c2"),
        {"type": "function_call_output", "call_id": "c1", "output": "r1"},
        call("c3"),
        reasoning("t2"),
        {"role": "assistant", "content": "a2"},
        {"role": "assistant", "content": "a3"},
    ]
    messages = messages_of(checked(ResponsesRequest, {"input": items}).input)
    assert [message["role"] for message in messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "assistant",
        "assistant",
    ]
    first, second, third, last = (message for message in messages if message["role"] == "assistant")
    assert (first["reasoning_content"], first["content"]) == ("t1", [{"type": "text", "text": "a1"}])
    assert [one["id"] for one in first["tool_calls"]] == ["c1", "c2"]
    assert ([one["id"] for one in second["tool_calls"]], second["content"]) == (["c3"], "")
    assert (third["reasoning_content"], third["content"], last["content"]) == ("t2", "a2", "a3")


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ("messages", "input"),
        ("max_tokens", "max_output_tokens"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("response_format", "text.format"),
        ("tools[3].function.parameters", "tools[3].parameters"),
        ("reasoning_effort", "reasoning"),
        ("tool_choice", "tool_choice"),
    ],
)
def test_errors_name_the_fields_that_were_sent(param: str, name: str) -> None:
    error = renamed(invalid(f"{param}: so and so", param))
    assert (error.param, error.message) == (name, f"{name}: so and so")
