"""Conversations from files: every form of a row, every template's way with thinking, every mistake by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farthing.data.conversations import Conversation, read_conversations, turns, written_out
from farthing.errors import DataError
from farthing.text import bpe
from farthing.text.tokenizer import Tokenizer

USER = {"role": "user", "content": "Two and two?"}
FOUR = {"role": "assistant", "content": "4"}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bpe.train(["two and two is four"], 300)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"messages": [USER, FOUR]}, {}),
        ({"prompt": "Two and two?", "completion": "4"}, {}),
        ({"prompt": [USER], "completion": [FOUR]}, {}),
        ({"talk": [USER, FOUR], "prompt": "not this"}, {"messages": "talk"}),
        ({"q": "Two and two?", "a": "4", "messages": "not this"}, {"prompt": "q", "completion": "a"}),
    ],
)
def test_a_row_in_any_form(tmp_path: Path, row: dict[str, Any], columns: dict[str, str]) -> None:
    (found,) = read_conversations(write(tmp_path / "x.jsonl", row), columns)
    assert found.messages == [USER, FOUR]
    assert found.place.endswith("x.jsonl:1")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"promt": "a", "completion": "b"}, 'there is no column "prompt"; did you mean prompt = "promt"?'),
        ({"prompt": 3, "completion": "b"}, 'column "prompt" must hold a text or a list of messages'),
        ({"messages": "a"}, 'column "messages" must hold a list of messages'),
        ({"messages": [USER]}, "no assistant message, so there is nothing to learn"),
        ({"messages": [FOUR, USER]}, "the first message is the assistant's, which answers nothing"),
        (
            {"messages": [USER, {"role": "assistent", "content": "4"}]},
            "message 1: role 'assistent' is unknown",
        ),
        ({"messages": [USER, {**FOUR, "tool_calls": [{}]}]}, "message 1: tool calls cannot be trained on"),
        ({"messages": [{"role": "user", "content": [{}]}, FOUR]}, "message 0: content must be text"),
    ],
)
def test_a_bad_row_names_file_and_line(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    path = write(tmp_path / "x.jsonl", {"messages": [USER, FOUR]}, row)
    with pytest.raises(DataError) as caught:
        read_conversations(path, {})
    assert str(caught.value).startswith(f"{path}:2: ") and expected in str(caught.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no conversations in it"):
        read_conversations(write(tmp_path / "x.jsonl"), {})


def test_thinking_kept_apart_is_written_in_front() -> None:
    assert written_out(FOUR) == "4"
    assert written_out({**FOUR, "reasoning_content": "2+2\n"}) == "<think>\n2+2\n</think>\n\n4"


BARE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]"
TEMPLATES = {
    "begins nothing": BARE + "{% endif %}",
    "opens thinking always": BARE + "<think>\n{% endif %}",
    "closes it where none is wanted": BARE
    + "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
}


@pytest.mark.parametrize("template", list(TEMPLATES))
@pytest.mark.parametrize("said", ["4", "<think>\n2+2\n</think>\n\n4", "<think>2+2</think>4"])
def test_a_turn_thinks_once_or_not_at_all_whatever_the_template_begins_it_with(
    tokenizer: Tokenizer, template: str, said: str
) -> None:
    own = Tokenizer(tokenizer.definition, tokenizer.config)
    own.chat_template = TEMPLATES[template]
    (turn,) = turns(own, Conversation([USER, {"role": "assistant", "content": said}], "here"))
    whole = own.decode(turn.token_ids).split("[assistant]")[1].removesuffix("<|end|>")
    tags = 1 if "2+2" in said or template != "begins nothing" else 0
    assert (whole.count("<think>"), whole.count("</think>")) == (tags, tags)
    assert whole.endswith("4")
    assert own.decode(turn.token_ids[turn.prompt_len :]).endswith("4<|end|>")


def test_a_question_is_held_out_with_all_its_answers() -> None:
    one, other = (Conversation([USER, {"role": "assistant", "content": text}], "x") for text in ("4", "four"))
    assert one.question == other.question != Conversation([{**USER, "content": "?"}, FOUR], "x").question
