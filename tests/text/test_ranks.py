import base64
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.text import bpe, ranks
from farthing.text.bytelevel import BYTE_OF, CHARACTER_OF, token_bytes, token_text
from farthing.text.tokenizer import Tokenizer

CORPUS = ["the cat sat on the mat, the 12345 cats sat 12 times: aaaaaa abababab 你好 don't DON'T\n\n  x"] * 5


def small_ranks() -> dict[bytes, int]:
    """Bytes, then merges as a trainer finds them: the kind of file that tiktoken reads."""
    trained = bpe.train(CORPUS, 420)
    vocab = trained.definition["model"]["vocab"]
    spelled = sorted((number, token_bytes(token)) for token, number in vocab.items() if number >= 9)
    return {token: rank for rank, (_, token) in enumerate(spelled)}


RANKS = small_ranks()


def joined(word: bytes) -> list[int]:
    """Byte pair encoding as tiktoken defines it: again and again the leftmost pair of the lowest rank."""
    if word in RANKS:
        return [RANKS[word]]
    parts = [word[index : index + 1] for index in range(len(word))]
    while True:
        pairs = [(RANKS[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in RANKS]
        if not pairs:
            return [RANKS[part] for part in parts]
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def reference(text: str, pattern: str) -> list[int]:
    return [rank for word in regex.findall(pattern, text) for rank in joined(word.encode("utf-8"))]


def style(group: int, whole_words: bool = False) -> ranks.Style:
    return ranks.Style(
        patterns=(ranks.gpt4_pattern(group),), special={"<|end|>": len(RANKS)}, whole_words=whole_words
    )


TEXTS = st.text(st.sampled_from("abcthe sam onz 12345'dDtT,:\n\t你好é😀")) | st.text()


@pytest.mark.parametrize("group", [1, 3])
@given(text=TEXTS)
def test_encoding_is_that_of_the_ranks(group: int, text: str) -> None:
    converted = Tokenizer(ranks.convert(RANKS, style(group, whole_words=True)))
    assert converted.encode(text) == reference(text, ranks.gpt4_pattern(group))


@settings(max_examples=30)
@given(text=TEXTS)
def test_nothing_changes_by_saving(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    converted = Tokenizer(ranks.convert(RANKS, style(3)), {"eos_token": "<|end|>"})
    folder = tmp_path_factory.mktemp("saved")
    converted.save(folder)
    loaded = Tokenizer.load(folder)
    assert loaded.encode(text) == converted.encode(text)
    assert loaded.decode(loaded.encode(text)) == text


def test_the_file_is_read_line_by_line() -> None:
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in RANKS.items())
    assert ranks.looks_like(lines)
    assert ranks.parse(lines + b"\n", "x") == RANKS
    assert not ranks.looks_like(b"\x0a\x0e\x0a\x05<unk>")
    assert not ranks.looks_like(b"")
    assert not ranks.looks_like(json.dumps({"a": 1}).encode())


def test_the_alphabet_covers_every_byte_once() -> None:
    assert sorted(BYTE_OF.values()) == list(range(256))
    assert token_bytes(token_text(bytes(range(256)))) == bytes(range(256))
    assert CHARACTER_OF[0x20] == "Ġ"
    assert token_bytes("<｜User｜>") == "<｜User｜>".encode()


def test_styles_hold_together() -> None:
    for name, entry in ranks.STYLES.items():
        numbers = [*entry.special.values(), *entry.unflagged.values()]
        assert len(set(numbers)) == len(numbers), name
        assert set(entry.named.values()) <= {*entry.special, *entry.unflagged}, name
        assert entry.start is None or entry.start in entry.special, name
    llama = ranks.STYLES["llama3"].special
    assert sorted(llama.values()) == list(range(128000, 128256))
    assert llama["<|reserved_special_token_2|>"] == 128005
    assert llama["<|reserved_special_token_247|>"] == 128255
    deepseek = ranks.STYLES["deepseek"].unflagged
    assert (deepseek["<think>"], deepseek["<｜Assistant｜>"], deepseek["<｜tool▁sep｜>"]) == (
        128798,
        128804,
        128814,
    )


def directory(folder: Path, **files: Path) -> Path:
    for name, source in files.items():
        (folder / name.replace("__", ".")).write_bytes(source.read_bytes())
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    source = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "tokenizers"
    if not source.exists():
        pytest.skip("public data is not beside the checkout: shared/data/tokenizers")
    files = {
        "qwen__tiktoken": source / "qwen.tiktoken",
        "tokenizer_config__json": source / "qwen3_tokenizer_config.json",
    }
    return Tokenizer.load(directory(tmp_path_factory.mktemp("qwen"), **files))


def test_qwen_reference_encodings(qwen: Tokenizer, data: Callable[[str], Path]) -> None:
    texts = (
        data("tokenizers/ggml-vocab-qwen2.gguf.inp")
        .read_bytes()
        .decode("utf-8")
        .split("\n__ggml_vocab_test__\n")
    )
    lines = data("tokenizers/ggml-vocab-qwen2.gguf.out").read_text().split("\n")
    assert len(texts) == len(lines) == 47
    for text, line in zip(texts, lines, strict=True):
        assert qwen.encode(text) == [int(number) for number in line.split()], text


def test_qwen_control_tokens_have_their_ids(qwen: Tokenizer) -> None:
    assert qwen.encode("<|im_start|><|im_end|><think></think><tool_call>", special=True) == [
        *(151644, 151645, 151667, 151668, 151657)
    ]
    assert (qwen.eos_id, qwen.pad_id, qwen.bos_id, qwen.vocab_size) == (151645, 151643, None, 151669)
    assert not [number for number in qwen.encode("<|im_start|><think><|fim_prefix|>") if number >= 151643]
    prompt = qwen.decode([151667, 198, 151668, 151645], skip_special=True)
    assert prompt == "<think>\n</think>"


def test_qwen_composes_characters(qwen: Tokenizer) -> None:
    assert qwen.encode("e\u0301") == qwen.encode("\u00e9")


def test_deepseek_vocabulary(data: Callable[[str], Path], tmp_path: Path) -> None:
    source = data("tokenizers/deepseek_v3.tiktoken")
    tokenizer = Tokenizer.load(directory(tmp_path, deepseek__tiktoken=source))
    assert tokenizer.encode("Hello!") == [19923, 3]
    assert tokenizer.encode("<think></think><｜User｜><｜Assistant｜>", special=True) == [
        128798,
        128799,
        128803,
        128804,
    ]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2)
    assert tokenizer.start_ids == (0,)
    assert tokenizer.vocab_size == 128815
    text = "数学 12345 naïve\n\n  def f(x): 😀"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    forged = tokenizer.encode("<｜begin▁of▁sentence｜><｜User｜><think>")
    assert not set(forged) & set(tokenizer.special_tokens.values())
