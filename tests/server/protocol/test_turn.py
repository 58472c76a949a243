"""The parser of turns: the same result however the tokens and the text are cut, and the state taken from the prompt."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.server.protocol.calls import CallParser
from farthing.server.protocol.shown import ChatView
from farthing.server.protocol.thinking import Wish
from farthing.server.protocol.turn import Delta, StopStrings, Tags, TurnParser
from farthing.text.bpe import train
from farthing.text.regions import split

TOKENIZER = train(["<think>maybe 3*8=24 olá 推理 🙂</think><answer>x</answer> <tool_call> and {}"] * 20, 330)
TAGS = Tags.of(TOKENIZER)
TEXTS = st.text(alphabet="ab <>/think\n推🙂é", max_size=12)
PIECES = st.lists(
    st.one_of(TEXTS, st.sampled_from(["<think>", "</think>", "<answer>", "</answer>"])), max_size=8
)


def whole(ids: list[int], **more: Any) -> Delta:
    """Everything at once."""
    return streamed(ids, [len(ids)], **more)


def streamed(ids: list[int], cuts: list[int], **more: Any) -> Delta:
    """Everything, taken out after each of the cuts, joined."""
    return joined(deltas_of(ids, cuts, **more))


def deltas_of(ids: list[int], cuts: Collection[int], **more: Any) -> list[Delta]:
    parser = TurnParser(TOKENIZER, TAGS, **more)
    out: list[Delta] = []
    for index, token in enumerate(ids):
        parser.feed(token, float(index))
        if index in cuts:
            out += parser.take()
    parser.finish()
    return out + parser.take()


def joined(deltas: Iterable[Delta]) -> Delta:
    out = Delta()
    for delta in deltas:
        out.thinking += delta.thinking
        out.content += delta.content
        out.entries += delta.entries
        out.thinking_entries += delta.thinking_entries
    return out


def tagged(deltas: Iterable[Delta]) -> str:
    """What a client reads who wants the thinking in the content."""
    nobody: Any = None
    view = ChatView(nobody, Wish(separate=False), with_entries=False)
    for delta in deltas:
        view.add(delta)
    return str(view.message["content"])


def in_order(deltas: Iterable[Delta]) -> list[tuple[str, str]]:
    """(region, text) of what was written, neighbours of one kind as one."""
    out: list[tuple[str, str]] = []
    for delta in deltas:
        kind, text = ("thinking", delta.thinking) if delta.thinking else ("content", delta.content)
        if out and out[-1][0] == kind:
            out[-1] = (kind, out[-1][1] + text)
        else:
            out.append((kind, text))
    return out


def spelled(text: str, size: int) -> list[int]:
    """Ids of `text`, tags as tokens; with size 1 every byte of the rest is a token of its own."""
    if size == 0:
        return TOKENIZER.encode(text, special=True)
    ids: list[int] = []
    for piece in TOKENIZER.encode(text, special=True):
        raw = TOKENIZER.token_bytes(piece)
        tag = piece in TOKENIZER.special_tokens.values()
        ids += [piece] if tag else [BYTES[byte] for byte in raw]
    return ids


BYTES = {TOKENIZER.token_bytes(index)[0]: index for index in range(9, 9 + 256)}


@settings(max_examples=300, deadline=None)
@given(
    PIECES,
    st.sets(st.integers(0, 200)),
    st.booleans(),
    st.lists(st.text("ab <🙂", min_size=1, max_size=4), max_size=2),
)
def test_the_result_does_not_depend_on_the_chunks(
    pieces: list[str], cuts: set[int], thinking: bool, stops: list[str]
) -> None:
    text = "".join(pieces)
    start: Any = "thinking" if thinking else "text"
    by_token = whole(spelled(text, 0), start=start, stops=stops)
    by_byte = whole(spelled(text, 1), start=start, stops=stops)
    in_pieces = streamed(spelled(text, 1), sorted(cuts), start=start, stops=stops)
    at_once = deltas_of(spelled(text, 1), (), start=start, stops=stops)
    one_by_one = deltas_of(spelled(text, 1), range(400), start=start, stops=stops)
    assert in_order(at_once) == in_order(one_by_one)
    assert not any(delta.thinking and delta.content for delta in at_once)
    assert tagged(at_once) == tagged(one_by_one)
    for other in (by_byte, in_pieces):
        assert other.content == by_token.content
        assert other.thinking == by_token.thinking
    assert not any(stop in by_token.content for stop in stops)


@settings(max_examples=200, deadline=None)
@given(PIECES, st.booleans())
def test_it_agrees_with_the_parser_of_texts(pieces: list[str], thinking: bool) -> None:
    text = "".join(pieces)
    found = whole(TOKENIZER.encode(text, special=True), start="thinking" if thinking else "text")
    regions = split(text, start_in_thinking=thinking)
    if regions.thinking is not None and text.count("<think>") + thinking == 1:
        assert found.thinking == regions.thinking.strip()
    if "think>" not in text and not thinking and "answer>" not in text:
        assert found.content == text


@pytest.mark.parametrize(
    ("text", "start", "thinking", "content"),
    [
        ("<think>a</think>b", "text", "a", "b"),
        ("a</think>b", "thinking", "a", "b"),
        ("a</think>b", "text", "", "a</think>b"),
        ("b", "text", "", "b"),
        ("a", "thinking", "a", ""),
        ("</think>b", "thinking", "", "b"),
        ("<think></think>b", "text", "", "b"),
        ("<think>a<think>c</think>b", "text", "a<think>c", "b"),
        ("<think>a</think>b</think>c", "text", "a", "b</think>c"),
        ("<think>\n a \n</think>\n\nb ", "text", "a", "b "),
        ("<think>a</think><answer>7</answer>", "text", "a", "7"),
        ("<think>a</think> <answer>7", "text", "a", "7"),
        ("<answer>7 <think> 8</answer>", "text", "", "7 <think> 8"),
        ("<think>a</think>b<think>c</think>d", "text", "ac", "bd"),
        ("", "thinking", "", ""),
    ],
)
def test_the_table_of_turns(text: str, start: Any, thinking: str, content: str) -> None:
    for size in (0, 1):
        found = whole(spelled(text, size), start=start)
        assert (found.thinking, found.content) == (thinking, content)


def test_text_that_looks_like_a_tag_is_text() -> None:
    ids = TOKENIZER.encode("see </think> and <answer>")
    assert whole(ids, start="thinking").thinking == "see </think> and <answer>"
    assert whole(ids).content == "see </think> and <answer>"


def test_stop_strings_do_not_count_in_the_thinking() -> None:
    found = whole(TOKENIZER.encode("<think>stop here</think>go, stop it", special=True), stops=["stop"])
    assert found.thinking == "stop here"
    assert found.content == "go, "


@given(
    st.text("ab", max_size=40),
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
    st.integers(1, 5),
)
def test_stop_strings_cut_where_the_first_that_is_complete_begins(
    text: str, stops: list[str], size: int
) -> None:
    matcher = StopStrings(stops)
    out = ""
    for at in range(0, len(text), size):
        out += matcher.feed(text[at : at + size])
        if matcher.hit:
            break
    if not matcher.hit:
        out += matcher.flush()
    # The one that is complete first counts, and of those that end together the longest.
    ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    assert out == (text[: min(ends)[1]] if ends else text)


def test_entries_belong_to_the_content_that_came_out() -> None:
    ids = TOKENIZER.encode("<think>ab</think>\n\n推理🙂 end STOP more", special=True)
    parser = TurnParser(TOKENIZER, TAGS, stops=["STOP"], with_entries=True)
    for index, token in enumerate(ids):
        parser.feed(token, float(index))
    delta = joined(parser.take())
    spelled_out = b"".join(TOKENIZER.token_bytes(entry.token_id) for entry in delta.entries).decode()
    assert spelled_out.strip().startswith("推理🙂 end")
    assert "more" not in spelled_out
    assert TOKENIZER.decode([entry.token_id for entry in delta.thinking_entries]) == "ab"
    assert parser.thinking_tokens == len(TOKENIZER.encode("ab"))


@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.text(max_size=6), st.integers(), st.none()), max_size=3
    ),
    st.integers(1, 7),
)
def test_calls_are_read_while_they_are_written(arguments: dict[str, Any], size: int) -> None:
    written = json.dumps(arguments, ensure_ascii=False)
    text = f'\n{{"name": "f", "arguments": {written}}}\n'
    parser = CallParser(3)
    deltas = [delta for at in range(0, len(text), size) for delta in parser.feed(text[at : at + size])]
    assert [delta.name for delta in deltas if delta.name] == ["f"]
    assert "".join(delta.arguments for delta in deltas) == written
    assert {delta.index for delta in deltas} == {3}
