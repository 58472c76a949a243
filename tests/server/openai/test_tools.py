"""Tool calls: offered, demanded, refused; streamed and not; and a template that opens every turn with a thought."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.server.openai.conftest import MULTIPLY

USER: dict[str, Any] = {"role": "user", "content": "what is 3*8?"}
TIMES = {"type": "function", "function": MULTIPLY}
NOW = {"type": "function", "function": {"name": "now"}}


def ask(client: openai.OpenAI, **more: Any) -> Any:
    settings = {"model": "caller", "messages": [USER], "max_tokens": 160, "tools": [TIMES, NOW]} | more
    extra = {"thinking_budget": 6} | settings.pop("extra_body", {})
    return client.chat.completions.create(**settings, extra_body=extra)


def check_call(name: str, arguments: str) -> None:
    found = json.loads(arguments)
    if name == "times":
        assert set(found) == {"a", "b"}
        assert 0 <= found["a"] <= 99
        assert found["b"] in (7, 8)
    else:
        assert name == "now"
        assert found == {}


@pytest.mark.parametrize("seed", range(4))
def test_a_demanded_call_comes_and_is_what_its_schema_says(client: openai.OpenAI, seed: int) -> None:
    choice = ask(client, seed=seed, tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.reasoning
    ids = [call.id for call in choice.message.tool_calls]
    assert len(set(ids)) == len(ids) >= 1
    for call in choice.message.tool_calls:
        check_call(call.function.name, call.function.arguments)


def test_a_named_call_is_the_only_one(client: openai.OpenAI) -> None:
    named = {"type": "function", "function": {"name": "times"}}
    for seed in range(3):
        calls = ask(client, seed=seed, tool_choice=named).choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["times"]


def test_calls_may_be_kept_from_being_parallel(client: openai.OpenAI) -> None:
    counts = [
        len(
            ask(client, seed=seed, tool_choice="required", parallel_tool_calls=False)
            .choices[0]
            .message.tool_calls
        )
        for seed in range(4)
    ]
    assert counts == [1, 1, 1, 1]


def test_where_calls_are_free_text_may_come_and_calls_are_whole(client: openai.OpenAI, server: Any) -> None:
    vocabulary = server.get("/v1/models/caller").json()
    assert vocabulary["capabilities"]["tools"]
    for seed in range(4):
        choice = ask(client, seed=seed, max_tokens=60).choices[0]
        for call in choice.message.tool_calls or []:
            if choice.finish_reason == "tool_calls":
                check_call(call.function.name, call.function.arguments)
        assert "<tool_call>" not in (choice.message.content or "")


@pytest.mark.parametrize("seed", range(3))
def test_a_streamed_call_is_the_whole_call(client: openai.OpenAI, seed: int) -> None:
    whole = ask(client, seed=seed, tool_choice="required").choices[0].message.tool_calls
    calls: dict[int, dict[str, str]] = {}
    finishes = []
    for chunk in ask(client, seed=seed, tool_choice="required", stream=True):
        [choice] = chunk.choices
        finishes += [choice.finish_reason] if choice.finish_reason else []
        for piece in choice.delta.tool_calls or []:
            call = calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += piece.id or ""
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
    assert finishes == ["tool_calls"]
    assert [(call["name"], call["arguments"]) for call in calls.values()] == [
        (call.function.name, call.function.arguments) for call in whole
    ]
    assert all(call["id"].startswith("call_") for call in calls.values())


def test_results_go_back_to_the_model(client: openai.OpenAI) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "times", "arguments": '{"a": 3, "b": 8}'},
    }
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "24"},
    ]
    with_result = ask(client, messages=messages, max_tokens=20)
    assert with_result.usage.prompt_tokens > ask(client, max_tokens=20).usage.prompt_tokens + 20


def test_tools_that_may_not_be_called_are_not_shown(client: openai.OpenAI) -> None:
    without = ask(client, tool_choice="none", max_tokens=5).usage.prompt_tokens
    assert without < ask(client, max_tokens=20).usage.prompt_tokens - 50


def test_a_form_and_tools_together_give_one_or_the_other(client: openai.OpenAI) -> None:
    form = {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "integer", "maximum": 9, "minimum": 0}},
    }
    for seed in range(3):
        choice = ask(client, seed=seed, response_format=form).choices[0]
        if choice.message.tool_calls:
            assert choice.finish_reason in ("tool_calls", "length")
        else:
            assert 0 <= json.loads(choice.message.content) <= 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"tools": [], "tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "absent"}}},
        {"tools": [TIMES, TIMES]},
        {"tools": [{"type": "function", "function": {"name": "bad name"}}]},
        {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"not": {}}}}]},
        {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "string"}}}]},
        {"model": "tiny"},
    ],
    ids=lambda wrong: json.dumps(wrong)[:50],
)
def test_tools_that_make_no_sense_are_refused(client: openai.OpenAI, wrong: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(client, **wrong)


def test_a_template_that_always_thinks_is_closed_when_asked_not_to(server: Any) -> None:
    silent = server.chat(model="caller", max_tokens=20, seed=1, enable_thinking=False)
    assert "reasoning" not in silent["choices"][0]["message"]
    thinking = server.chat(model="caller", max_tokens=20, seed=1)
    assert thinking["choices"][0]["message"]["reasoning"]
    assert silent["usage"]["prompt_tokens"] > thinking["usage"]["prompt_tokens"]


def test_two_models_answer_at_once(server: Any) -> None:
    both = [server.chat(model=name, max_tokens=10, seed=2)["model"] for name in ("tiny", "caller", "tiny")]
    assert both == ["tiny", "caller", "tiny"]
