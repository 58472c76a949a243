"""POST /v1/responses as the official client takes it, streamed and not, against a real tiny model."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from farthing.server.protocol import answers
from tests.server.openai.conftest import MULTIPLY

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ASKED = "3, 5 and 8 to make 24"
TIMES = {"type": "function"} | MULTIPLY


def ask(client: openai.OpenAI, **more: Any) -> Any:
    extra = {"seed": more.pop("seed", 7)} | more.pop("extra_body", {})
    return client.responses.create(**({"model": "tiny", "input": ASKED} | more), extra_body=extra)


def ask_for_a_call(client: openai.OpenAI, seed: int, **more: Any) -> Any:
    settings = {"tools": [TIMES], "tool_choice": "required", "reasoning": {"max_tokens": 6}} | more
    return ask(client, model="caller", input="what is 3*8?", seed=seed, max_output_tokens=160, **settings)


def events_of(server: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Every event as it was sent; each has to be one of the official client's, field by field."""
    answer = server.post("/v1/responses", body | {"stream": True})
    assert answer.status_code == 200, answer.text
    *blocks, last = [block for block in answer.text.strip().split("\n\n") if block[:1] != ":"]
    assert last == "data: [DONE]"
    out = []
    for block in blocks:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENTS.validate_python(event)
        out.append(event)
    assert [event["sequence_number"] for event in out] == list(range(len(out)))
    return out


def stripped(response: dict[str, Any]) -> dict[str, Any]:
    """A response without what is another each time: names, clocks, and what a cache knew."""
    out = {key: value for key, value in response.items() if key not in ("id", "created_at", "completed_at")}
    names = ("id", "call_id")
    out["output"] = [{key: item[key] for key in item if key not in names} for item in response["output"]]
    out["usage"] = {key: response["usage"][key] for key in ("input_tokens", "output_tokens", "total_tokens")}
    return out


SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"reasoning": {"enabled": False}},
    {"reasoning": {"exclude": True}},
    {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "reasoning": {"max_tokens": 4}},
    {"max_output_tokens": 4},
    {"model": "caller", "tools": [TIMES], "tool_choice": "required", "reasoning": {"max_tokens": 6}},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=json.dumps)
@pytest.mark.parametrize("seed", range(3))
def test_a_stream_says_what_a_whole_response_says(server: Any, settings: dict[str, Any], seed: int) -> None:
    body = {"input": ASKED, "seed": seed, "max_output_tokens": 100} | settings
    answer = server.post("/v1/responses", body)
    assert answer.status_code == 200, answer.text
    Response.model_validate(answer.json())
    answers.Response.model_validate(answer.json(), strict=True)
    events = events_of(server, body)
    assert stripped(events[-1]["response"]) == stripped(answer.json())
    assert events[-1]["type"] == f"response.{answer.json()['status']}"
    assert built_of(events) == events[-1]["response"]["output"]


def built_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output as somebody has it who listens to the small events alone, in the order they have to come in."""
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    items: list[dict[str, Any]] = []
    for event in events[2:-1]:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert all(item["status"] != "in_progress" for item in items)
            assert event["output_index"] == len(items)
            items.append(event["item"])
            continue
        item = items[-1]
        assert item["id"] == event.get("item_id", item["id"])
        assert event["output_index"] == len(items) - 1
        if kind == "content_part.added":
            item["content"].append(event["part"])
        elif kind in ("reasoning_text.delta", "output_text.delta"):
            item["content"][0]["text"] += event["delta"]
            item["content"][0].get("logprobs", []).extend(event.get("logprobs", []))
        elif kind in ("reasoning_text.done", "output_text.done"):
            assert item["content"][0]["text"] == event["text"]
        elif kind == "content_part.done":
            assert item["content"][0] == event["part"]
        elif kind == "function_call_arguments.delta":
            item["arguments"] += event["delta"]
        elif kind == "function_call_arguments.done":
            assert item["arguments"] == event["arguments"]
        else:
            assert kind == "output_item.done"
            item["status"] = event["item"]["status"]
            assert item == event["item"]
    return items


def test_it_says_what_a_chat_completion_says(client: openai.OpenAI) -> None:
    chat: Any = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": ASKED}], seed=7, max_tokens=100
    )
    response = ask(client, max_output_tokens=100)
    message = chat.choices[0].message
    thoughts = [part.text for item in response.output if item.type == "reasoning" for part in item.content]
    assert response.output_text == message.content
    assert "".join(thoughts) == (message.model_extra or {}).get("reasoning", "")
    assert response.usage.output_tokens == chat.usage.completion_tokens
    assert response.usage.input_tokens == chat.usage.prompt_tokens


def test_thinking_is_an_item_of_its_own_in_front_of_the_answer(client: openai.OpenAI) -> None:
    response = ask(client, model="caller", max_output_tokens=60, reasoning={"max_tokens": 6})
    thought, *rest = response.output
    assert thought.type == "reasoning"
    assert thought.summary == []
    assert thought.content[0].text
    assert all(item.type == "message" for item in rest)
    assert 0 < response.usage.output_tokens_details.reasoning_tokens <= 7  # a line break closes it
    silent = ask(client, model="caller", max_output_tokens=60, reasoning={"effort": "none"})
    assert "reasoning" not in {item.type for item in silent.output}
    assert silent.reasoning.effort == "none"
    hidden = ask(client, model="caller", max_output_tokens=60, reasoning={"max_tokens": 6, "exclude": True})
    assert "reasoning" not in {item.type for item in hidden.output}
    assert hidden.output_text == response.output_text
    assert hidden.usage.output_tokens == response.usage.output_tokens


def test_a_response_that_was_cut_says_so(client: openai.OpenAI) -> None:
    cut = ask(client, model="caller", max_output_tokens=3)
    assert cut.status == "incomplete"
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert [item.status for item in cut.output] == ["incomplete"]
    assert cut.usage.output_tokens == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_call_comes_and_its_result_goes_back(client: openai.OpenAI, seed: int) -> None:
    response = ask_for_a_call(client, seed)
    calls = [item for item in response.output if item.type == "function_call"]
    assert response.status == "completed"
    assert len({call.call_id for call in calls}) == len(calls) >= 1
    for call in calls:
        arguments = json.loads(call.arguments)
        assert call.name == "times"
        assert 0 <= arguments["a"] <= 99
        assert arguments["b"] in (7, 8)
    results = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "a long result, 24"}
        for call in calls
    ]
    sent = [item.model_dump(exclude_none=True) for item in response.output]
    asked = {"role": "user", "content": "what is 3*8?"}
    again = ask(client, model="caller", input=[asked, *sent, *results], tools=[TIMES], max_output_tokens=20)
    assert again.usage.input_tokens > response.usage.input_tokens + 20
    named = ask_for_a_call(client, seed, tool_choice={"type": "function", "name": "times"})
    assert [item.type for item in named.output].count("function_call") == 1


def test_the_clients_own_stream_ends_with_the_response(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"extra_body": {"seed": 1, "reasoning": {"max_tokens": 6}}}
    with client.responses.stream(
        model="caller",
        input=[{"role": "user", "content": "what is 3*8?"}],
        tools=[TIMES],  # type: ignore[list-item]
        tool_choice="required",
        max_output_tokens=160,
        **settings,
    ) as stream:
        kinds = {event.type for event in stream}
        response = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    assert "response.reasoning_text.delta" in kinds
    assert [item.type for item in response.output].count("function_call") >= 1


class Verdict(BaseModel):
    sure: bool
    grade: Literal[1, 2, 3]


def test_a_schema_binds_the_answer_and_the_client_reads_it(client: openai.OpenAI) -> None:
    response = client.responses.parse(
        model="tiny", input=ASKED, text_format=Verdict, max_output_tokens=200, extra_body={"seed": 2}
    )
    assert response.status == "completed"
    assert isinstance(response.output_parsed, Verdict)
    assert response.text and response.text.format and response.text.format.type == "json_schema"


def test_instructions_and_items_are_the_messages_they_stand_for(client: openai.OpenAI) -> None:
    def said(**more: Any) -> tuple[int, str]:
        response = ask(client, max_output_tokens=12, **more)
        return response.usage.input_tokens, response.output_text

    items = [
        {"type": "message", "role": "system", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASKED}]},
    ]
    assert said(instructions="Be brief.") == said(input=items)
    assert said(instructions="Be brief.")[0] > said()[0]
    turns = [
        {"role": "user", "content": "My name is Alice."},
        {"role": "assistant", "content": "Hello Alice!"},
        {"role": "user", "content": "What is my name?"},
    ]
    chat: Any = client.chat.completions.create(model="tiny", messages=turns, max_tokens=1)  # type: ignore[arg-type]
    assert said(input=turns)[0] == chat.usage.prompt_tokens


# What the schema of Open Responses (2026-04-24) requires of every response.
REQUIRED = (
    "id object created_at completed_at status incomplete_details model previous_response_id instructions output error "
    "tools tool_choice truncation parallel_tool_calls text top_p presence_penalty frequency_penalty top_logprobs "
    "temperature reasoning usage max_output_tokens max_tool_calls store background service_tier metadata "
    "safety_identifier prompt_cache_key"
)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "maxLength": 9}},
        "required": ["location"],
    },
}


def say(role: str, content: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


@pytest.mark.parametrize(
    "body",
    [
        {"input": [say("user", "Say hello in exactly 3 words.")]},
        {"input": [say("system", "You are a pirate."), say("user", "Say hello.")]},
        {"input": [say("user", "I am Alice."), say("assistant", "Hello Alice!"), say("user", "Who am I?")]},
        {"input": [say("user", "What's the weather like?")], "tools": [WEATHER], "tool_choice": "required"},
    ],
    ids=["basic", "system prompt", "multi-turn", "tool calling"],
)
def test_the_cases_of_open_responses(server: Any, body: dict[str, Any]) -> None:
    body = {"model": "caller", "reasoning": {"max_tokens": 6}, "seed": 3} | body
    whole = server.post("/v1/responses", body | {"stream": False}).json()
    events = events_of(server, body)
    for response in (whole, *(event["response"] for event in events if "response" in event)):
        assert set(response) >= set(REQUIRED.split())
    kinds = {item["type"] for item in whole["output"]}
    assert kinds
    if "tools" in body:
        called = [event for event in events if event.get("item", {}).get("type") == "function_call"]
        assert {event["type"].rpartition(".")[2] for event in called} == {"added", "done"}
        assert "function_call" in kinds


def test_what_was_asked_for_is_repeated(client: openai.OpenAI) -> None:
    response = ask(
        client,
        model="caller",
        max_output_tokens=20,
        temperature=0.5,
        top_p=0.9,
        tools=[TIMES],
        tool_choice="none",
        metadata={"a": "b"},
        store=False,
        extra_body={"surprise": 1},
    )
    assert (response.temperature, response.top_p, response.max_output_tokens) == (0.5, 0.9, 20)
    assert response.tools[0].name == "times"
    assert (response.tool_choice, response.metadata, response.store) == ("none", {"a": "b"}, False)
    assert response.warnings == ["surprise: unknown, ignored"]


@pytest.mark.parametrize(
    ("wrong", "param", "code"),
    [
        ({"input": []}, "input", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "invalid_value"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0].type",
            "invalid_value",
        ),
        ({"input": "x " * 600}, "input", "context_length_exceeded"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"max_output_tokens": 100_000}, "max_output_tokens", "context_length_exceeded"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"reasoning": {"effort": "none", "enabled": True}}, "reasoning", "invalid_value"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"not": {}}}}},
            "text.format",
            "unsupported_schema",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
        (
            {"tools": [TIMES | {"parameters": {"type": "string"}}]},
            "tools[0].parameters",
            "invalid_value",
        ),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
        ({"include": ["file_search_call.results"]}, "include[0]", "invalid_value"),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_bad_input_is_refused_by_name(
    client: openai.OpenAI, wrong: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **({"max_output_tokens": 5} | wrong))
    assert (caught.value.param, caught.value.code) == (param, code)
    assert isinstance(caught.value.body, dict)
    assert "\n" not in caught.value.body["message"]


def test_a_model_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        ask(client, model="absent")
