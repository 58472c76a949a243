"""Thinking on and off in every spelling, bounded, shown and hidden; and the forms of answers behind it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.reading import checked
from farthing.server.protocol.schema import ChatRequest
from farthing.server.protocol.thinking import EFFORT_SHARES, wish_of

USER = {"messages": [{"role": "user", "content": "3, 5 and 8"}]}
OPEN = {"5": 100}  # makes the tiny model open a thought (token 5 is <think>) and never say anything else
SCHEMA = {
    "type": "object",
    "properties": {"evidence": {"type": "string", "maxLength": 8}, "verdict": {"enum": ["yes", "no"]}},
    "required": ["evidence", "verdict"],
    "additionalProperties": False,
}


def wish(**fields: Any) -> Any:
    return wish_of(checked(ChatRequest, USER | fields))


@pytest.mark.parametrize(
    "spelling",
    [
        {"reasoning_effort": "none"},
        {"reasoning": {"effort": "none"}},
        {"reasoning": {"enabled": False}},
        {"thinking": {"type": "disabled"}},
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"chat_template_kwargs": {"thinking": False}},
    ],
)
def test_every_spelling_of_off(server: Any, spelling: dict[str, Any]) -> None:
    assert wish(**spelling).on is False
    message = server.chat(max_tokens=30, seed=1, logit_bias=OPEN, **spelling)["choices"][0]["message"]
    assert "reasoning" not in message
    assert "reasoning_content" not in message


@pytest.mark.parametrize(
    "spelling",
    [
        {"reasoning_effort": "low"},
        {"reasoning": {"effort": "high"}},
        {"thinking": {"type": "enabled"}},
        {"enable_thinking": True},
        {"chat_template_kwargs": {"thinking": True}},
    ],
)
def test_every_spelling_of_on(spelling: dict[str, Any]) -> None:
    assert wish(**spelling).on is True


@pytest.mark.parametrize(
    "spelling",
    [
        {"thinking_token_budget": 9},
        {"thinking_budget": 9},
        {"max_thinking_tokens": 9},
        {"thinking": {"type": "enabled", "budget_tokens": 9}},
        {"reasoning": {"max_tokens": 9}},
    ],
)
def test_every_spelling_of_a_budget(server: Any, spelling: dict[str, Any]) -> None:
    assert wish(**spelling).budget == 9
    for seed in range(3):
        body = server.chat(max_tokens=60, seed=seed, logit_bias={"5": 3}, **spelling)
        assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 9


@pytest.mark.parametrize(
    "contradiction",
    [
        {"enable_thinking": True, "thinking": {"type": "disabled"}},
        {"reasoning_effort": "none", "enable_thinking": True},
        {"reasoning_effort": "low", "reasoning": {"effort": "high"}},
        {"thinking_budget": 1, "max_thinking_tokens": 2},
    ],
)
def test_contradictions_are_refused(contradiction: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        wish(**contradiction)
    assert caught.value.status == 400


def test_efforts_are_budgets_that_grow() -> None:
    shares = [share for share in EFFORT_SHARES.values() if share is not None]
    assert shares == sorted(shares)


def test_a_bounded_thought_is_closed_and_the_answer_follows(server: Any) -> None:
    body = server.chat(max_tokens=40, thinking_budget=6, logit_bias={"5": 100, "6": -100}, temperature=0)
    message, usage = body["choices"][0]["message"], body["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 6
    assert usage["completion_tokens"] > 7
    assert message["reasoning"] == message["reasoning_content"]
    assert server.metric('thinking_truncated_total{reason="budget"}') >= 1


def test_thinking_comes_under_both_names_apart_or_not_at_all(server: Any) -> None:
    # Going on inside a thought: the turn begins there, whatever a model without opinions would do.
    turns = [USER["messages"][0], {"role": "assistant", "content": "", "reasoning": "well"}]
    body = {
        "messages": turns,
        "continue_final_message": True,
        "max_tokens": 40,
        "seed": 3,
        "thinking_budget": 8,
    }

    def said(**more: Any) -> dict[str, Any]:
        answer = server.post("/v1/chat/completions", body | {"logit_bias": {"5": -100, "6": -100}} | more)
        assert answer.status_code == 200, answer.text
        message: dict[str, Any] = answer.json()["choices"][0]["message"]
        return message

    apart = said()
    assert apart["reasoning"]
    hidden = said(include_reasoning=False)
    assert "reasoning" not in hidden
    assert hidden["content"] == apart["content"]
    together = said(separate_reasoning=False)
    assert "reasoning" not in together
    assert together["content"] == f"<think>\n{apart['reasoning']}\n</think>\n\n{apart['content']}"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("thinking", [True, False, None])
def test_a_schema_holds_for_the_answer_with_thinking_and_without(
    server: Any, seed: int, thinking: bool | None
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": SCHEMA}}
    more = {} if thinking is None else {"enable_thinking": thinking}
    body = server.chat(seed=seed, max_tokens=120, response_format=form, **more)
    choice = body["choices"][0]
    assert choice["finish_reason"] == "stop"
    found = json.loads(choice["message"]["content"])
    assert set(found) == {"evidence", "verdict"}
    thought = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert thought == 0 if thinking is False else thought > 0


def test_any_json_object_and_any_regex(server: Any) -> None:
    for seed in range(4):
        body = server.chat(
            seed=seed, max_tokens=200, response_format={"type": "json_object"}, enable_thinking=False
        )
        choice = body["choices"][0]
        if choice["finish_reason"] == "stop":
            assert isinstance(json.loads(choice["message"]["content"]), dict)
        body = server.chat(
            seed=seed, max_tokens=60, regex="(ja|nein), [0-9]{2}", enable_thinking=seed % 2 == 0
        )
        assert re.fullmatch("(ja|nein), [0-9]{2}", body["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "not": {}}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "https://example.com"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": "x" * (65 << 10)}}},
        {"type": "json_schema", "schema": {}},
        {"type": "regex", "regex": "(?=a)"},
        {"type": "grammar"},
    ],
    ids=lambda form: json.dumps(form)[:60],
)
def test_forms_that_cannot_be_had_are_named(server: Any, form: dict[str, Any]) -> None:
    answer = server.post("/v1/chat/completions", USER | {"response_format": form})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("response_format")


def test_history_may_hold_thinking_under_either_name(server: Any) -> None:
    def prompt_tokens(turn: dict[str, Any]) -> int:
        messages = [
            USER["messages"][0],
            {"role": "assistant", **turn},
            {"role": "user", "content": "and now?"},
        ]
        answer = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["usage"]["prompt_tokens"])

    bare = prompt_tokens({"content": "24"})
    for name in ("reasoning", "reasoning_content"):
        assert prompt_tokens({"content": "24", name: "3*8"}) == bare, "old thinking is dropped"
    assert prompt_tokens({"content": "<think>3*8</think>24"}) == bare


def test_a_reply_that_was_cut_goes_on_where_it_was(server: Any) -> None:
    settings = {"temperature": 0, "enable_thinking": False}
    whole = server.chat(max_tokens=24, **settings)["choices"][0]["message"]["content"]
    part = server.chat(max_tokens=12, **settings)["choices"][0]["message"]["content"]
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": part}]
    body = {"messages": messages, "continue_final_message": True, "max_tokens": 12} | settings
    answer = server.post("/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    rest = answer.json()["choices"][0]["message"]["content"]
    assert whole.startswith(part)
    assert rest
    messages[-1]["role"] = "user"
    assert server.post("/v1/chat/completions", body).status_code == 400


def test_what_was_ignored_is_said(server: Any) -> None:
    body = server.chat(max_tokens=2, flavour="salty", temperature=0)
    assert any("flavour" in warning for warning in body["warnings"])
    assert any("temperature" in warning for warning in body["warnings"])
