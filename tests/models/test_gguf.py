"""GGUF files: what the library's reader finds is what the model holds, and llama.cpp computes the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farthing.errors import CheckpointError
from farthing.models import gguf_file
from farthing.models.checkpoint import load_model, save_model
from farthing.models.config import ModelConfig, MoEConfig, RopeConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.gguf_file import ROPE_FACTORS, paired, write_gguf
from farthing.models.rope import inverse_frequencies, rotary_tables, rotate
from farthing.text import bpe
from farthing.text.llamacpp import CONTROL, NORMAL, UNUSED, USER_DEFINED, vocabulary
from farthing.text.tokenizer import Tokenizer

gguf = pytest.importorskip("gguf", reason="gguf is not installed")

LLAMA3 = RopeConfig(rope_type="llama3", factor=8.0, original_max_position_embeddings=64)
DENSE: dict[str, dict[str, Any]] = {
    "qwen3": {"qk_norm": True, "tie_word_embeddings": True},
    "qwen2": {"attention_bias": True},
    "llama": {"rope": LLAMA3},
    "ernie4_5": {"rope": RopeConfig(interleaved=True, rope_theta=5e5), "tie_word_embeddings": True},
}
TEXT = "3, 5 and 8: make 24. <think>\n8 * 3 = 24</think>\n<answer>8*3*(5-4)</answer> über 漢字 12345"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bpe.train([TEXT, "once upon a time there were 1234567 numbers"] * 8, 340, digit_group=3)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Callable[..., Path]:
    def make(model_type: str, **changes: Any) -> Path:
        config = ModelConfig(
            vocab_size=tokenizer.vocab_size + 5,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            model_type=model_type,
            initializer_range=0.2,
            **changes,
        )
        directory = tmp_path_factory.mktemp(model_type) / "model"
        save_model(initialise(Decoder(config), 3), tokenizer, directory)
        return directory

    return make


@pytest.mark.parametrize("model_type", DENSE)
def test_what_the_reader_finds_is_what_the_model_holds(
    model_type: str, model_dir: Callable[..., Path], tmp_path: Path
) -> None:
    directory, target = model_dir(model_type, **DENSE[model_type]), tmp_path / "model.gguf"
    report = write_gguf(directory, target, "float32")
    model, _ = load_model(directory)
    assert report["moved"] == 0.0
    reader = gguf.GGUFReader(target)
    assert sum(tensor.n_elements for tensor in reader.tensors if tensor.name != ROPE_FACTORS) == sum(
        parameter.numel() for parameter in model.parameters()
    )
    assert reader.get_field("general.architecture").contents() == model_type
    assert reader.get_field(f"{model_type}.attention.key_length").contents() == 16
    embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    assert np.array_equal(embedding.data, model.model.embed_tokens.weight.detach().numpy())


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 1e-3), ("bfloat16", 5e-3), ("q8_0", 5e-3)])
def test_rounding_is_bounded_and_reported(
    dtype: str, bound: float, model_dir: Callable[..., Path], tmp_path: Path
) -> None:
    report = write_gguf(model_dir("qwen3", **DENSE["qwen3"]), tmp_path / "model.gguf", dtype)
    assert 0 < report["moved"] < bound


def test_paired_rows_turn_as_halves_did() -> None:
    """The rotation of neighbours, applied to reordered rows, is the reordered rotation of halves."""
    x = torch.randn(7, 3, 16, dtype=torch.float64)
    cos, sin = rotary_tables(inverse_frequencies(RopeConfig(), 16), torch.arange(7), torch.float64)

    def reorder(heads: torch.Tensor) -> torch.Tensor:
        return torch.stack([paired(token.flatten(), 3).view(3, 16) for token in heads])

    turned = rotate(reorder(x), cos, sin, interleaved=True)
    assert torch.equal(turned, reorder(rotate(x, cos, sin, interleaved=False)))
    assert not torch.equal(reorder(x), x)


def test_the_vocabulary_in_llama_cpp_terms(tokenizer: Tokenizer) -> None:
    words = vocabulary(tokenizer, tokenizer.vocab_size + 2)
    assert (words.model, words.pre) == ("gpt2", "dbrx")
    assert words.types[tokenizer.token_id("<|user|>") or 0] == CONTROL
    assert words.types[tokenizer.token_id("<think>") or 0] == USER_DEFINED
    assert words.types[-2:] == (UNUSED, UNUSED)
    assert words.types[tokenizer.encode("a")[0]] == NORMAL
    assert len(set(words.tokens)) == len(words.tokens) == tokenizer.vocab_size + 2


def test_what_cannot_be_written_says_so(model_dir: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    moe = MoEConfig(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    with pytest.raises(CheckpointError, match="qwen3_moe models cannot be written"):
        write_gguf(model_dir("qwen3_moe", qk_norm=True, moe=moe), target)
    yarn = RopeConfig(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
    with pytest.raises(CheckpointError, match="yarn positions"):
        write_gguf(model_dir("qwen3", qk_norm=True, rope=yarn), target)
    with pytest.raises(CheckpointError, match='no format "q2"; choose one of float32'):
        write_gguf(model_dir("qwen3", qk_norm=True), target, "q2")
    pairs = bpe.train([TEXT] * 4, 300, digit_group=2)
    with pytest.raises(CheckpointError, match="digit_group = 1 and 3"):
        vocabulary(pairs, pairs.vocab_size)
    assert not list(tmp_path.iterdir())


def test_a_file_that_reads_back_otherwise_is_not_kept(
    model_dir: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit that tips between writing and reading back is noticed."""
    real = gguf_file._write

    def tipped(library: Any, path: Path, *rest: Any) -> None:
        real(library, path, *rest)
        data = bytearray(path.read_bytes())
        data[-100] ^= 64
        path.write_bytes(data)

    monkeypatch.setattr(gguf_file, "_write", tipped)
    with pytest.raises(Exception, match="does not read back"):
        write_gguf(model_dir("qwen3", **DENSE["qwen3"]), tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model_type", DENSE)
def test_llama_cpp_computes_the_same(
    model_type: str, model_dir: Callable[..., Path], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Same ids for the same text, and, with its cache in float32 as well, logits to 1e-5 of the largest."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama_cpp is not installed")
    directory, target = model_dir(model_type, **DENSE[model_type]), tmp_path / "model.gguf"
    write_gguf(directory, target, "float32")
    model, _ = load_model(directory)
    whole = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    peer = llama_cpp.Llama(str(target), n_ctx=128, logits_all=True, verbose=False, **whole)
    ids = tokenizer.encode(TEXT, special=True)
    assert peer.tokenize(TEXT.encode(), add_bos=False, special=True) == ids
    peer.eval(ids)
    found = torch.from_numpy(np.array(peer.scores[: len(ids)]))
    expected = model(torch.tensor([ids]))[0].detach()
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
