"""Writing and reading models: what we write loads in transformers with the same logits, and comes back unchanged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from farthing.errors import CheckpointError
from farthing.models.checkpoint import load_model, save_model
from farthing.models.config import ModelConfig, RopeConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.layout import link_directory
from farthing.text.bpe import train

TINY = ModelConfig(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=10,
    qk_norm=True,
    rope=RopeConfig(rope_theta=5000.0),
)


def tiny(**changes: object) -> Decoder:
    return initialise(Decoder(dataclasses.replace(TINY, **changes)), seed=1)


@pytest.mark.parametrize("tied", [True, False])
def test_what_we_write_loads_in_transformers_with_the_same_logits(tmp_path: Path, tied: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = train(["one and one is two"], 300)
    model = tiny(tie_word_embeddings=tied)
    save_model(model, tokenizer, tmp_path / "model", {"task": "countdown"})
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    ids = torch.randint(0, 300, (2, 17), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, rtol=1e-5, atol=1e-5)
    text = "one and two"
    assert AutoTokenizer.from_pretrained(tmp_path / "model").encode(text) == tokenizer.encode(text)
    assert json.loads((tmp_path / "model" / "farthing.json").read_text()) == {"task": "countdown"}


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_comes_back_as_it_was(tmp_path: Path, tied: bool) -> None:
    model = tiny(tie_word_embeddings=tied)
    save_model(model, None, tmp_path / "model")
    again, tokenizer = load_model(tmp_path / "model")
    assert tokenizer is None and again.config == model.config
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    ids = torch.arange(12).view(1, -1)
    assert torch.equal(again(ids), model(ids))


def test_saving_again_replaces_the_directory(tmp_path: Path) -> None:
    save_model(tiny(), None, tmp_path / "model", {"version": 1})
    save_model(tiny(), None, tmp_path / "model")
    assert not (tmp_path / "model" / "farthing.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_half_precision_on_disk_is_half_the_bytes(tmp_path: Path) -> None:
    save_model(tiny(), None, tmp_path / "model", dtype="bfloat16")
    model, _ = load_model(tmp_path / "model", dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    with pytest.raises(CheckpointError, match="choose one of float32"):
        load_model(tmp_path / "model", dtype="fp32")


def test_generation_ends_where_the_model_or_the_tokenizer_says(tmp_path: Path) -> None:
    tokenizer = train(["one and one is two"], 300)

    def written(**changes: object) -> dict[str, object]:
        save_model(tiny(**changes), tokenizer, tmp_path / "model")
        return json.loads((tmp_path / "model" / "generation_config.json").read_text())

    assert written()["eos_token_id"] == tokenizer.eos_id
    assert written(eos_token_id=(1, 7))["eos_token_id"] == [1, 7]
    assert load_model(tmp_path / "model")[0].config.eos_token_id == (1, 7)


def test_a_model_with_two_places_is_on_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is linked stays as it was when its first place gets another model; without links it is copied."""
    place, second, third = (tmp_path / name for name in ("stage", "model", "copy"))
    model = tiny()
    save_model(model, None, place)
    link_directory(place, second)
    assert (place / "model.safetensors").samefile(second / "model.safetensors")
    before = (second / "model.safetensors").read_bytes()
    save_model(initialise(model, seed=2), None, place)
    assert (second / "model.safetensors").read_bytes() == before != (place / "model.safetensors").read_bytes()
    link_directory(place, second)
    assert (place / "model.safetensors").samefile(second / "model.safetensors")

    def no_links(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr("os.link", no_links)
    link_directory(place, third)
    assert (third / "model.safetensors").read_bytes() == (place / "model.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "model", "stage"]
