"""Requests nobody would write on purpose: none is answered with a bug, and a normal one succeeds after each.

The default run is a slice; `FARTHING_FUZZ_CASES=20000 pytest tests/server/test_fuzz.py --timeout 0` is the whole.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from farthing.server.protocol.answers import (
    ChatCompletion,
    Detokenized,
    EmbeddingList,
    ErrorEnvelope,
    Response,
    TextCompletion,
    Tokenized,
)

CASES = int(os.environ.get("FARTHING_FUZZ_CASES", "80"))
SLOWLY = settings(
    max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=CASES < 1000
)
# What a case may be answered with; anything else is a bug.
ALLOWED = {200, 400, 404, 405, 413, 415, 429}

NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 16, 17, 2**31, 2**31 - 1, 2**63, -(2**63), 2**64, 10**40, 0.0, 0.5, 1e308, -0.0]
)
ODD: st.SearchStrategy[Any] = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.text(max_size=12),
    st.sampled_from(
        ["<think>", "</think>", "<|end|>", "\x00", "🙂", "a" * 5000, ["x"], {}, [[]], {"type": "function"}]
    ),
)
SCHEMAS = st.sampled_from(
    [
        {},
        {"type": "object"},
        {"type": ["string", "null"], "maxLength": 3},
        {"enum": []},
        {"$ref": "#"},
        {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
        {"type": "string", "pattern": "(a+)+$"},
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"allOf": [{"type": "string"}, {"minLength": 2}]},
        {"properties": {"a": {"properties": {"b": {"not": {}}}}}},
        {"type": "object", "additionalProperties": {"anyOf": [{"type": "null"}] * 50}},
        {"const": "\x00\ud7ff"},
    ]
)
FORMS = st.one_of(
    st.builds(
        lambda schema: {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, SCHEMAS
    ),
    st.builds(
        lambda pattern: {"type": "regex", "regex": pattern},
        st.sampled_from(["", "a*", "(", "[", "(a{99}){99}", "\\d+(?!x)", ".*"]),
    ),
    st.sampled_from([{"type": "json_object"}, {"type": "text"}, {"type": "json_schema"}, {}, "json"]),
)
TOOLS = st.lists(
    st.builds(
        lambda name, schema: {"type": "function", "function": {"name": name, "parameters": schema}},
        st.sampled_from(["f", "g", "", "bad name", "x" * 65]),
        SCHEMAS,
    ),
    max_size=3,
)
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "", "User"])
CONTENTS: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=30),
    st.none(),
    st.just([{"type": "text", "text": "part"}]),
    st.just([{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]),
    st.sampled_from(["</think><answer>", "<|user|>", "\ue000\ue001", "a" * 3000]),
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": ROLES, "content": CONTENTS},
        optional={"reasoning": CONTENTS, "tool_calls": TOOLS, "tool_call_id": st.text(max_size=3)},
    ),
    max_size=4,
)


def mostly(valid: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nineteen times of twenty what makes sense; where nothing does, a request is refused for the first of it."""
    return st.integers(0, 19).flatmap(lambda die: ODD if die == 7 else valid)


def choice(*values: Any) -> st.SearchStrategy[Any]:
    return mostly(st.sampled_from(values))


SHARED: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": mostly(st.integers(1, 6)),
    "n": mostly(st.integers(1, 3)),
    "temperature": mostly(st.floats(0, 2)),
    "top_p": mostly(st.floats(0.01, 1)),
    "top_k": mostly(st.integers(0, 400)),
    "seed": mostly(st.integers(-(2**63), 2**63)),
    "stop": mostly(st.lists(st.text(min_size=1, max_size=3), max_size=4)),
    "stream": mostly(st.booleans()),
    "stream_options": choice({"include_usage": True}, {}),
    "logit_bias": mostly(st.dictionaries(st.sampled_from(["0", "5", "326"]), st.floats(-100, 100))),
    "presence_penalty": mostly(st.floats(-2, 2)),
    "frequency_penalty": mostly(st.floats(-2, 2)),
    "user": mostly(st.text(max_size=5)),
    "model": choice("tiny", "caller"),
    "surprise": ODD,
}


def one_field(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """None of these fields or one of them; two would often contradict each other."""
    single = [st.fixed_dictionaries({name: values}) for name, values in fields.items()]
    return st.one_of(st.just({}), *single)


THINKING = one_field(
    reasoning_effort=choice("none", "low", "max"),
    reasoning=choice({"effort": "minimal"}, {"enabled": False}, {"exclude": True}),
    thinking=choice({"type": "disabled"}, {"type": "enabled", "budget_tokens": 2}),
    enable_thinking=mostly(st.booleans()),
    chat_template_kwargs=choice({}, {"thinking": True}),
    thinking_budget=mostly(st.integers(0, 5)),
)
FORM = one_field(response_format=mostly(FORMS), regex=choice("a*", "[0-9]{3}", "(", "(a{99}){99}"))


def calling(tools: Any, *choices: Any) -> Any:
    """A model that calls, what it is offered and what is demanded."""
    return st.fixed_dictionaries(
        {"tools": mostly(tools), "model": st.just("caller")},
        optional={"tool_choice": choice(*choices), "parallel_tool_calls": mostly(st.booleans())},
    )


def joined(*parts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


CALLS = calling(TOOLS, "none", "auto", "required")
EXTRAS = st.fixed_dictionaries(
    {},
    optional=SHARED
    | {
        "logprobs": mostly(st.just(True)),
        "separate_reasoning": mostly(st.booleans()),
        "include_reasoning": mostly(st.booleans()),
    },
)
RARE = one_field(
    max_completion_tokens=ODD,
    top_logprobs=ODD,
    continue_final_message=ODD,
    tool_choice=ODD,
    audio=ODD,
    messages=ODD,
)
CHAT = st.builds(
    lambda messages, *parts: joined({"messages": messages}, *parts),
    st.integers(0, 3).flatmap(
        lambda die: MESSAGES if die == 3 else st.just([{"role": "user", "content": "hi"}])
    ),
    EXTRAS,
    THINKING,
    st.one_of(FORM, CALLS),
    RARE,
)
PROMPTS = st.one_of(
    st.text(min_size=1, max_size=20),
    st.lists(st.integers(0, 326), min_size=1, max_size=5),
    st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3),
)
REGEXES = choice("a*", "[0-9]{3}", "(", "(a{99}){99}", "x(?!y)")
TEXT = st.fixed_dictionaries(
    {"prompt": mostly(PROMPTS)},
    optional=SHARED
    | {"echo": mostly(st.booleans()), "logprobs": mostly(st.integers(0, 20)), "regex": REGEXES},
)
PARTS = st.one_of(
    CONTENTS,
    st.just([{"type": "input_text", "text": "part"}]),
    st.just([{"type": "output_text", "text": "part", "annotations": []}]),
    st.just([{"type": "input_image", "image_url": "http://169.254.169.254/"}]),
)
ITEMS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": ROLES, "content": PARTS}, optional={"type": choice("message")}),
        st.fixed_dictionaries(
            {
                "type": choice("function_call", "function_call_output", "reasoning", "item_reference"),
                "call_id": choice("call_1", "call_2"),
            },
            optional={
                "name": choice("f", "g"),
                "arguments": choice("{}", "", "[1"),
                "output": mostly(PARTS),
                "content": mostly(st.just([{"type": "reasoning_text", "text": "hm"}])),
                "summary": ODD,
                "id": ODD,
                "status": choice("completed", "in_progress", "incomplete"),
            },
        ),
    ),
    max_size=5,
)
FLAT_TOOLS = st.lists(
    st.builds(
        lambda name, schema: {"type": "function", "name": name, "parameters": schema},
        st.sampled_from(["f", "g", "", "bad name", "x" * 65]),
        SCHEMAS,
    ),
    max_size=3,
)
FORMATS = st.one_of(
    st.builds(lambda schema: {"format": {"type": "json_schema", "name": "x", "schema": schema}}, SCHEMAS),
    choice({"format": {"type": "json_object"}}, {"format": {"type": "json_schema"}}, {"verbosity": "low"}),
    choice({"format": {"type": "regex", "regex": "[0-9]{3}"}}, {"format": {"type": "regex", "regex": "("}}),
)
RESPONSES = st.builds(
    lambda asked, *parts: joined({"input": asked, "max_output_tokens": 6}, *parts),
    st.integers(0, 3).flatmap(lambda die: ITEMS if die == 3 else mostly(st.just("hi"))),
    st.fixed_dictionaries(
        {},
        optional={key: SHARED[key] for key in ("temperature", "top_p", "top_k", "seed", "stream", "surprise")}
        | {
            "instructions": mostly(st.text(max_size=20)),
            "reasoning": choice(
                {"effort": "low"}, {"effort": "none"}, {"summary": "auto"}, {"exclude": True}
            ),
            "include": choice(["message.output_text.logprobs"], ["reasoning.encrypted_content"], []),
            "top_logprobs": mostly(st.integers(0, 20)),
            "metadata": choice({"a": "b"}, {}),
        },
    ),
    st.one_of(
        st.fixed_dictionaries({"text": mostly(FORMATS)}),
        calling(FLAT_TOOLS, "auto", "required", {"type": "function", "name": "f"}),
    ),
    one_field(
        input=ODD,
        max_output_tokens=ODD,
        max_tool_calls=ODD,
        store=ODD,
        previous_response_id=ODD,
        background=ODD,
        truncation=ODD,
        tool_choice=ODD,
    ),
)
TOKENS = st.fixed_dictionaries(
    {},
    optional={
        "model": choice("tiny", "caller"),
        "prompt": mostly(st.text(max_size=20)),
        "messages": mostly(MESSAGES),
        "tools": mostly(TOOLS),
        "chat_template_kwargs": choice({}, {"thinking": True}, {"other": 1}),
        **{
            name: mostly(st.booleans())
            for name in (
                "add_generation_prompt",
                "continue_final_message",
                "add_special_tokens",
                "return_token_strs",
            )
        },
    },
)
EMBEDDINGS = st.fixed_dictionaries(
    {
        "input": mostly(
            st.one_of(PROMPTS, st.lists(st.lists(mostly(st.integers(0, 330)), max_size=4), max_size=3))
        )
    },
    optional={key: SHARED[key] for key in ("model", "user", "surprise")}
    | {"encoding_format": choice("float", "base64"), "dimensions": mostly(st.integers(1, 64))},
)
IDS = st.fixed_dictionaries(
    {"tokens": mostly(st.lists(mostly(st.integers(0, 330)), max_size=9))},
    optional={"model": choice("tiny", "caller")},
)
CANARY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    with server.client() as client:
        yield client


@pytest.mark.parametrize(
    ("path", "bodies", "answer"),
    [
        ("chat/completions", CHAT, ChatCompletion),
        ("completions", TEXT, TextCompletion),
        ("responses", RESPONSES, Response),
        ("embeddings", EMBEDDINGS, EmbeddingList),
    ],
    ids=["chat", "completions", "responses", "embeddings"],
)
@SLOWLY
@given(data=st.data())
def test_no_request_is_a_bug_and_the_next_one_succeeds(
    client: httpx.Client, path: str, bodies: Any, answer: Any, data: Any
) -> None:
    check(client, f"/v1/{path}", data.draw(bodies), answer)


@SLOWLY
@given(TOKENS, IDS)
def test_no_request_for_tokens_is_a_bug_and_the_next_one_succeeds(
    client: httpx.Client, asked: dict[str, Any], ids: dict[str, Any]
) -> None:
    check(client, "/tokenize", asked, Tokenized)
    check(client, "/detokenize", ids, Detokenized)


def check(client: httpx.Client, path: str, body: Any, model: Any) -> None:
    answer = client.post(path, json=body)
    event(f"answered with {answer.status_code}")
    assert answer.status_code in ALLOWED, (answer.status_code, answer.text)
    if answer.headers["content-type"].startswith("text/event-stream"):
        last = answer.text.rstrip().rpartition("\n")[2]
        assert last == "data: [DONE]" or '"code":"engine_refused"' in last, last
    elif answer.status_code == 200:
        model.model_validate(answer.json(), strict=True)
    else:
        ErrorEnvelope.model_validate(answer.json(), strict=True)
    assert client.post("/v1/chat/completions", json=CANARY).status_code == 200


def test_the_document_describes_what_is_served(server: Any) -> None:
    """schemathesis makes cases of the document and holds the answers to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own dependencies' business
        import schemathesis
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi import checks

        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        held_to = [
            not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
        ]
        slowly = settings(SLOWLY, max_examples=max(8, CASES // 4))
        paths = set()
        for result in schema.get_all_operations():
            operation = result.ok()
            paths.add(operation.path)

            @slowly
            @given(case=operation.as_strategy())
            def holds(case: Any) -> None:
                case.validate_response(case.call(), checks=held_to)

            holds()
    assert {"/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/tokenize", "/detokenize"} <= paths
    server.chat(max_tokens=1)
