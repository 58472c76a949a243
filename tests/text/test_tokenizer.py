import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import CheckpointError
from farthing.text import bpe
from farthing.text.tokenizer import Tokenizer

SPELLED = st.lists(
    st.sampled_from(
        [*bpe.SPECIAL_TOKENS, "<|", "|>", "<", "end", "|end|", "think", " ", "\n", "4", "é", "😀"]
    ),
    max_size=12,
).map("".join)


def test_text_becomes_a_control_token_only_when_asked(tokenizer: Tokenizer) -> None:
    text = "<|user|>hi<|end|><think>"
    assert tokenizer.encode(text, special=True)[0] == tokenizer.token_id("<|user|>")
    assert not set(tokenizer.encode(text)) & set(tokenizer.special_tokens.values())
    assert (
        tokenizer.decode(tokenizer.encode(text))
        == tokenizer.decode(tokenizer.encode(text, special=True))
        == text
    )


@given(SPELLED)
def test_no_spelling_reaches_a_control_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer.special_tokens.values())
    assert tokenizer.decode(ids) == text


@given(SPELLED)
def test_with_special_tokens_the_ids_are_those_of_the_library(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, special=True)) == text


def test_role_tokens_can_be_left_out_of_the_text_but_tags_stay(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|assistant|><think>a</think>4<|end|>", special=True)
    assert tokenizer.decode(ids, skip_special=True) == "<think>a</think>4"


@given(st.lists(st.integers(0, 399), max_size=30), st.booleans())
def test_streaming_gives_the_text_of_all_ids(tokenizer: Tokenizer, ids: list[int], skip: bool) -> None:
    stream = tokenizer.stream(skip_special=skip)
    assert "".join([stream.push(number) for number in ids]) + stream.flush() == tokenizer.decode(
        ids, skip_special=skip
    )


def test_streaming_never_shows_half_a_character(tokenizer: Tokenizer) -> None:
    ids = bpe.train(["x"], bpe.SMALLEST_VOCAB + 0).encode("a😀é")  # one token for each byte
    stream = tokenizer.stream()
    assert [stream.push(number) for number in ids] == ["a", "", "", "", "😀", "", "é"]
    stream = tokenizer.stream()
    assert [stream.push(number) for number in ids[:3]] + [stream.flush()] == ["a", "", "", "\ufffd"]


def test_saving_and_loading_keeps_everything(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.definition == tokenizer.definition
    assert loaded.config == tokenizer.config
    assert loaded.chat_template == tokenizer.chat_template != ""
    loaded.save(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_transformers_reads_the_directory_and_sees_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in [
        "2+2 = 4?",
        "naïve 你好 😀\n\n  x",
        "<|user|>hi<|assistant|><think>a</think><answer>4</answer><|end|>",
    ]:
        ids = tokenizer.encode(text, special=True)
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids) == text
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids, skip_special=True)
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (1, 0, None)
    assert len(theirs) == tokenizer.vocab_size


def test_a_released_model_is_read_as_others_read_it(data: Callable[[str], Path]) -> None:
    path = data("weights/tinystories-656k/tokenizer.json")
    ours, library = Tokenizer.load(path.parent), tokenizers.Tokenizer.from_file(str(path))
    strange = "One day,\nLily  saw 3 dogs. héé 你"
    assert [*ours.start_ids, *ours.encode(strange)] == library.encode(strange).ids
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (1, 2, 0)
    assert not set(ours.encode("<|end_story|><|start_story|>")) & {1, 2}
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent)  # its Llama class drops what is unknown
    text = "Once upon a time, there was a little girl  named Lily.\n She had 3 dogs."
    assert [*ours.start_ids, *ours.encode(text)] == theirs(text).input_ids
    assert (
        ours.decode(ours.encode(text))
        == text
        == theirs.decode(theirs(text).input_ids, skip_special_tokens=True)
    )


def test_tokens_that_only_the_config_knows_are_added_with_their_ids(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    listed = {
        str(number): {"content": content, "special": True}
        for number, content in [(400, "<|tool|>"), (777, "<|later|>"), (0, "<|pad|>")]
    }
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "added_tokens_decoder": listed}))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode("<|tool|><|later|><|pad|>x", special=True)[:3] == [400, 777, 0]
    assert loaded.vocab_size == 778
    assert not {400, 777} & set(loaded.encode("<|tool|><|later|>"))


def test_ids_that_the_library_would_change_are_refused(tokenizer: Tokenizer) -> None:
    far = {**tokenizer.definition["added_tokens"][0], "content": "<|far|>", "id": 5000}
    definition = {**tokenizer.definition, "added_tokens": [*tokenizer.definition["added_tokens"], far]}
    with pytest.raises(CheckpointError, match=r"<\|far\|> the id 5000"):
        Tokenizer(definition)


def test_a_template_file_wins_over_the_config(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("other")
    assert Tokenizer.load(tmp_path).chat_template == "other"
    Tokenizer.load(tmp_path).save(tmp_path)
    assert Tokenizer.load(tmp_path).chat_template == "other"


def test_of_several_templates_the_default_is_taken(tokenizer: Tokenizer) -> None:
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}]
    assert Tokenizer(tokenizer.definition, {"chat_template": named}).chat_template == "y"
    assert Tokenizer(tokenizer.definition, {}).chat_template == ""


def test_code_named_in_the_config_is_dropped(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.config["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", None]}
    try:
        tokenizer.save(tmp_path)
    finally:
        del tokenizer.config["auto_map"]
    assert "auto_map" not in Tokenizer.load(tmp_path).config


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer.json", "{", "cannot be read as JSON"),
        ("tokenizer.json", "[]", "expected a JSON object"),
        ("tokenizer.json", '{"model": 3}', "cannot be used"),
        (
            "tokenizer_config.json",
            "nonsense",
            "cannot be read as JSON.*; without the file the model can be used",
        ),
        ("tokenizer.model", "nonsense", "not a SentencePiece model"),
        ("x.tiktoken", "IQ== 0\nIg==\n", "line 2"),
        ("x.tiktoken", "IQ== 0\nIg== 1\n", "2 ranks"),
        ("readme.txt", "", "no vocabulary found"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(tmp_path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        Tokenizer.load(tmp_path / "nowhere")
