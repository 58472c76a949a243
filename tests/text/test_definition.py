"""Vocabularies of other makes: control tokens stay out of reach, and a space is put in front only at the start."""

import json
from typing import Any

import pytest
import tokenizers as library
from hypothesis import given
from hypothesis import strategies as st

from farthing.text.definition import with_fixed_ids
from farthing.text.tokenizer import Tokenizer

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
CONTROL = ("</s>", "<think>", "[INST]")
ALPHABET = ["<", "/", "s", ">", "t", "h", "i", "n", "k", "[", "I", "N", "S", "T", "]", "a", "▁", "x"]


def added(vocab: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"id": vocab[token], "content": token, **FLAGS, "special": token == "</s>"}
        for token in (*CONTROL, "aa")  # "aa" is no control token: merely convenient
    ]


def spelled_by_merges(ignore_merges: bool) -> dict[str, Any]:
    """A BPE whose merges lead, letter by letter, to each control token."""
    merges: list[list[str]] = []
    for token in CONTROL:
        merges += [[token[:size], token[size]] for size in range(1, len(token))]
    made = list(dict.fromkeys(left + right for left, right in merges))
    pieces = [*ALPHABET, *(piece for piece in made if piece not in CONTROL), "<unk>", "aa", *CONTROL]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    model = {
        "type": "BPE",
        "unk_token": "<unk>",
        "ignore_merges": ignore_merges,
        "vocab": vocab,
        "merges": merges,
    }
    return {"version": "1.0", "added_tokens": added(vocab), "model": model}


def unigram() -> dict[str, Any]:
    pieces = [
        ["<unk>", 0.0],
        *[[piece, -9.0] for piece in ALPHABET],
        ["aa", 0.0],
        *[[piece, 0.0] for piece in CONTROL],
    ]
    vocab = {piece: number for number, (piece, _) in enumerate(pieces)}
    return {
        "version": "1.0",
        "added_tokens": added(vocab),
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False},
    }


def word_level() -> dict[str, Any]:
    vocab = {piece: number for number, piece in enumerate(["<unk>", "a", "aa", *CONTROL])}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    return {
        "version": "1.0",
        "added_tokens": added(vocab),
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": model,
    }


MAKES = [spelled_by_merges(False), spelled_by_merges(True), unigram(), word_level()]


@pytest.mark.parametrize("definition", MAKES, ids=["merges", "whole words", "unigram", "word level"])
@given(
    parts=st.lists(
        st.sampled_from([*CONTROL, "<", "think>", "a", "aa", " ", "</", "s>", "[", "INST]"]), max_size=8
    )
)
def test_no_make_of_vocabulary_lets_text_become_control(definition: dict[str, Any], parts: list[str]) -> None:
    tokenizer = Tokenizer(definition)
    control = {tokenizer.token_id(token) for token in CONTROL}
    assert set(tokenizer.special_tokens.values()) == control
    assert not control & set(tokenizer.encode("".join(parts)))


@pytest.mark.parametrize("definition", MAKES, ids=["merges", "whole words", "unigram", "word level"])
def test_control_tokens_are_there_when_asked_for(definition: dict[str, Any]) -> None:
    tokenizer = Tokenizer(definition)
    for token in CONTROL:
        assert tokenizer.encode(token, special=True) == [tokenizer.token_id(token)]
    assert tokenizer.encode("aa") == tokenizer.encode("aa", special=True) == [tokenizer.token_id("aa")]


@pytest.mark.parametrize(
    ("step", "start", "after_control", "after_text"),
    [
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}},
            True,
            True,
            False,
        ),
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}},
            True,
            False,
            False,
        ),
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}},
            False,
            False,
            False,
        ),
        ({"normalizer": {"type": "Prepend", "prepend": "▁"}}, True, True, False),
        (
            {
                "normalizer": {
                    "type": "Sequence",
                    "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "▁"}],
                }
            },
            True,
            True,
            False,
        ),
        ({}, False, False, False),
    ],
)
def test_where_a_space_is_put_in_front(
    step: dict[str, Any], start: bool, after_control: bool, after_text: bool
) -> None:
    if "pre_tokenizer" in step:
        step["pre_tokenizer"]["split"] = True
    tokenizer = Tokenizer({**spelled_by_merges(False), **step})
    space = tokenizer.token_id("▁")
    found = [
        tokenizer.encode("x", position=position)[0] == space
        for position in ("start", "after_control", "after_text")
    ]
    assert found == [start, after_control, after_text]


def test_a_model_that_spells_no_control_token_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    vocab = {piece: number for number, piece in enumerate([*ALPHABET, "aa", "<unk>"])}
    numbered = {**vocab, **{token: len(vocab) + index for index, token in enumerate(CONTROL)}}
    model = {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": []}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    tokenizer = Tokenizer(
        {"version": "1.0", "added_tokens": added(numbered), "model": model, "pre_tokenizer": metaspace}
    )
    text = "xaa <think>[INST]</s>"
    pieces = ["▁", "x", "aa", "▁", *"<think>[INST]</s>"]
    assert tokenizer.encode(text) == [vocab[piece] for piece in pieces]
    assert tokenizer.encode(text, position="after_text") == [vocab[piece] for piece in pieces[1:]]
    shared = tokenizer.encode(text)
    apart = Tokenizer(tokenizer.definition)
    monkeypatch.setattr(
        apart, "_variant", lambda definition: library.Tokenizer.from_str(json.dumps(definition))
    )
    assert apart.encode(text) == shared


@given(ids=st.lists(st.integers(0, 22), max_size=12), skip=st.booleans())
def test_streaming_with_a_decoder_of_no_known_kind(ids: list[int], skip: bool) -> None:
    decoder = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    tokenizer = Tokenizer({**unigram(), "decoder": decoder})
    stream = tokenizer.stream(skip_special=skip)
    assert "".join([stream.push(number) for number in ids]) + stream.flush() == tokenizer.decode(
        ids, skip_special=skip
    )


def test_ids_with_gaps_are_entered_in_the_model() -> None:
    definition = spelled_by_merges(False)
    far = {"id": 900, "content": "<far>", **FLAGS, "special": True}
    fixed = with_fixed_ids({**definition, "added_tokens": [*definition["added_tokens"], far]})
    assert Tokenizer(fixed).encode("<far></s>", special=True) == [900, definition["model"]["vocab"]["</s>"]]
    assert with_fixed_ids(definition) == definition
