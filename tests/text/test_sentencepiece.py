"""SentencePiece models, trained here with the library itself, encode the same after conversion."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import CheckpointError
from farthing.text import sentencepiece as conversion
from farthing.text.tokenizer import Tokenizer

library = pytest.importorskip("sentencepiece", reason="the sentencepiece package is not installed")

CORPUS = [
    "The quick brown fox jumps over the lazy dog; 12 months have 365 days.",
    "She sells sea shells by the sea shore, and the shells she sells are sea shells.",
    "user: what is 2+2? assistant: let me think, 2+2 = 4.",
    "子曰：学而时习之，不亦说乎？有朋自远方来，不亦乐乎？",
    "naïve café, déjà vu, über",
] * 10
SETTINGS: dict[str, dict[str, Any]] = {
    "bpe": {"model_type": "bpe"},
    "bpe as Llama has it": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "split_digits": True,
    },
    "bpe as ERNIE has it": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "byte_fallback": True,
        "user_defined_symbols": ["<mask:1>", "<|end_of_sentence|>"],
        "control_symbols": ["<|LOC_0|>"],
    },
    "unigram": {"model_type": "unigram"},
    "unigram with bytes": {
        "model_type": "unigram",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
    },
}


def train(**options: Any) -> bytes:
    model = io.BytesIO()
    size = 700 if options.get("byte_fallback") else 400
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    return model.getvalue()


MODELS = {name: train(**options) for name, options in SETTINGS.items()}
PLAIN = st.text(st.sampled_from("the sea shlqu,. 1234:;?+=é子曰学而,\n\t"), max_size=40)
SPELLED = st.lists(
    st.sampled_from(["<s>", "</s>", "<unk>", "<", "s>", "<0x0A>", "a", " ", "<|LOC_0|>", "|"])
).map("".join)


def both(name: str) -> tuple[Any, Tokenizer]:
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    return (
        library.SentencePieceProcessor(model_proto=MODELS[name]),
        Tokenizer(conversion.convert(MODELS[name], config, name), config),
    )


@pytest.mark.parametrize("name", MODELS)
def test_sentences_encode_the_same(name: str) -> None:
    theirs, ours = both(name)
    for text in [
        *CORPUS[:5],
        "",
        " ",
        "a",
        "  two  spaces ",
        "unseen: 😀 ŵ",
        "line\nbreak\n\n",
        "ＦＵＬＬ ｗｉｄｔｈ",
    ]:
        assert ours.encode(text) == theirs.encode(text), text
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text)).replace(
            "⁇", "<unk>"
        ).replace(" <unk> ", "<unk>"), text
    assert ours.vocab_size == theirs.vocab_size()


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=150)
@given(text=PLAIN)
def test_any_text_encodes_the_same(name: str, text: str) -> None:
    theirs, ours = PAIRS[name]
    assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize("name", MODELS)
@given(text=SPELLED)
def test_control_pieces_are_out_of_reach(name: str, text: str) -> None:
    _, ours = PAIRS[name]
    steering = set(ours.special_tokens.values()) - {ours.token_id("<unk>")}
    assert not steering & set(ours.encode(text))
    assert ours.encode("<s>", special=True) == [ours.token_id("<s>")]


@pytest.mark.parametrize("name", ["bpe as Llama has it", "bpe as ERNIE has it", "unigram with bytes"])
@given(ids=st.lists(st.integers(3, 300), max_size=20), skip=st.booleans())
def test_streaming_gives_the_text_of_all_ids(name: str, ids: list[int], skip: bool) -> None:
    _, ours = PAIRS[name]
    stream = ours.stream(skip_special=skip)
    assert "".join([stream.push(number) for number in ids]) + stream.flush() == ours.decode(
        ids, skip_special=skip
    )


PAIRS = {name: both(name) for name in MODELS}


def test_a_directory_with_a_model_is_loaded_and_saved_for_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.model").write_bytes(MODELS["bpe as Llama has it"])
    (tmp_path / "tokenizer_config.json").write_text(
        '{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true}'
    )
    ours = Tokenizer.load(tmp_path)
    assert (ours.bos_id, ours.eos_id, ours.start_ids) == (1, 2, (1,))
    ours.save(tmp_path / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    text = "She sells 12 sea shells: 子曰 😀"
    assert theirs(text).input_ids == [1, *ours.encode(text)]
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "not a SentencePiece model"),
        (lambda data: b"\x0b" + data, "not a SentencePiece model"),
        (lambda data: b"", "it holds no pieces"),
        (lambda data: b"\xff" * 30, "not a SentencePiece model"),
        (lambda data: data + b"\x12\x02\x18\x03", "only unigram and BPE"),
    ],
)
def test_damaged_models_are_named(damage: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        conversion.convert(damage(MODELS["bpe"]), {}, "tokenizer.model")
