"""POST /tokenize and /detokenize, as vLLM's clients ask for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farthing.text.tokenizer import Tokenizer

TEXT = "maybe 3*8=24 olá 推理 🙂"
USER = {"role": "user", "content": TEXT}
TOOLS = [{"type": "function", "function": {"name": "now"}}]


def ask(server: Any, path: str, **body: Any) -> dict[str, Any]:
    answer = server.post(path, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_text_becomes_its_ids_and_they_the_text(server: Any, tokenizer: Tokenizer) -> None:
    found = ask(server, "/tokenize", model="tiny", prompt=TEXT)
    ids = [*tokenizer.start_ids, *tokenizer.encode(TEXT)]
    assert found == {"count": len(ids), "max_model_len": 512, "tokens": ids, "token_strs": None}
    bare = ask(server, "/tokenize", prompt=TEXT, add_special_tokens=False)["tokens"]
    assert bare == tokenizer.encode(TEXT)
    assert ask(server, "/detokenize", model="tiny", tokens=bare) == {"prompt": TEXT}


def test_tokens_are_spelled_where_they_are_asked_for(server: Any) -> None:
    found = ask(server, "/tokenize", prompt="olá 24", add_special_tokens=False, return_token_strs=True)
    assert len(found["token_strs"]) == found["count"]
    assert "24" in "".join(found["token_strs"])


def test_text_never_becomes_a_control_token_but_an_id_is_shown_as_one(
    server: Any, tokenizer: Tokenizer
) -> None:
    assert ask(server, "/tokenize", prompt="<|end|><think>")["count"] > 4
    wanted = tokenizer.token_id("<think>")
    assert ask(server, "/detokenize", tokens=[wanted]) == {"prompt": "<think>"}


@pytest.mark.parametrize("more", [{}, {"tools": TOOLS}, {"chat_template_kwargs": {"enable_thinking": True}}])
def test_a_conversation_has_the_ids_that_a_chat_completion_begins_with(
    server: Any, more: dict[str, Any]
) -> None:
    found = ask(server, "/tokenize", model="caller", messages=[USER], **more)
    chat = server.chat(TEXT, model="caller", max_tokens=1, **more)
    assert found["count"] == len(found["tokens"]) == chat["usage"]["prompt_tokens"]
    again = ask(server, "/detokenize", model="caller", tokens=found["tokens"])["prompt"]
    assert TEXT in again
    assert again.endswith("<think>\n")


def test_a_turn_is_opened_or_left_open_or_neither(server: Any) -> None:
    turns = [USER, {"role": "assistant", "content": "the answer is"}]
    closed = ask(server, "/tokenize", messages=turns, add_generation_prompt=False)["tokens"]
    opened = ask(server, "/tokenize", messages=turns)["tokens"]
    left_open = ask(
        server, "/tokenize", messages=turns, add_generation_prompt=False, continue_final_message=True
    )["tokens"]
    assert opened[: len(closed)] == closed
    assert len(opened) > len(closed)
    written = ask(server, "/detokenize", tokens=left_open)["prompt"]
    assert written.endswith("the answer is")


@pytest.mark.parametrize(
    ("path", "wrong", "status", "param"),
    [
        ("/tokenize", {}, 400, None),
        ("/tokenize", {"prompt": "x", "messages": [USER]}, 400, None),
        ("/tokenize", {"prompt": ["x"]}, 400, "prompt"),
        ("/tokenize", {"messages": []}, 400, "messages"),
        ("/tokenize", {"messages": [{"role": "x", "content": ""}]}, 400, "messages[0].role"),
        ("/tokenize", {"messages": [USER] * 2001}, 400, "messages"),
        ("/tokenize", {"messages": [USER], "tools": TOOLS, "model": "tiny"}, 400, "tools"),
        (
            "/tokenize",
            {"messages": [USER], "add_generation_prompt": True, "continue_final_message": True},
            400,
            None,
        ),
        ("/tokenize", {"messages": [USER], "continue_final_message": True}, 400, "continue_final_message"),
        ("/tokenize", {"messages": [USER], "chat_template": "{{ 1 }}"}, 400, "chat_template"),
        ("/tokenize", {"prompt": "x", "model": "absent"}, 404, "model"),
        ("/detokenize", {}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens"),
        ("/detokenize", {"tokens": [10**12]}, 400, "tokens"),
        ("/detokenize", {"tokens": "x"}, 400, "tokens"),
        ("/detokenize", {"tokens": [1], "model": "absent"}, 404, "model"),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_bad_input_is_refused_by_name(
    server: Any, path: str, wrong: dict[str, Any], status: int, param: str | None
) -> None:
    answer = server.post(path, wrong)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param
