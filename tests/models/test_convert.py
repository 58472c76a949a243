"""Reading and writing are each other's inverse: names, shapes, dtypes and bytes come back as they were."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farthing.errors import CheckpointError
from farthing.models.checkpoint import load_model, save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.export import export
from farthing.models.families.operators import add_axis, rename, split, stack, take_apart
from farthing.models.headers import read_headers
from tests.models.shapes import LATENT

Theirs = Callable[[str], tuple[Any, Path]]
Contents = dict[str, tuple[str, tuple[int, ...], bytes]]


def contents(directory: Path) -> Contents:
    """name -> (dtype, shape, bytes) of every tensor of a checkpoint."""
    return {
        name: (entry.dtype, entry.shape, entry.file.read_bytes()[entry.start : entry.end])
        for name, entry in read_headers(directory).items()
    }


def mixed(source: Path, target: Path) -> Path:
    """The same checkpoint as it would be released: bfloat16, but for routers and correction biases."""
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    wide = ("gate.weight", "correction_bias")
    kept = {name: t if name.endswith(wide) else t.bfloat16() for name, t in tensors.items()}
    save_file(kept, target / "model.safetensors", {"format": "pt"})
    return target


def test_import_then_export_changes_nothing(case: str, theirs: Theirs, tmp_path: Path) -> None:
    _, directory = theirs(case)
    for source in (directory, mixed(directory, tmp_path / "mixed")):
        report = export(source, tmp_path / "out")
        assert contents(tmp_path / "out") == contents(source)
        assert report["moved"] == 0


def test_what_is_saved_again_loads_in_transformers(case: str, theirs: Theirs, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    their_model, directory = theirs(case)
    model, _ = load_model(directory)
    save_model(model, None, tmp_path / "out")
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    ids = torch.arange(1, 31).view(2, 15)
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).logits, their_model(ids).logits)


def test_modules_that_predict_further_stand_behind_the_last_layer(tmp_path: Path) -> None:
    model = initialise(Decoder(LATENT), 0)
    save_model(model, None, tmp_path / "a")
    names = read_headers(tmp_path / "a")
    assert "model.layers.3.shared_head.norm.weight" in names
    assert "model.layers.2.mlp.experts.7.up_proj.weight" in names
    found = contents(tmp_path / "a")
    assert found["model.layers.3.embed_tokens.weight"] == found["model.embed_tokens.weight"]
    assert found["model.layers.2.shared_head.head.weight"] == found["lm_head.weight"]
    export(tmp_path / "a", tmp_path / "b")
    assert contents(tmp_path / "b") == found
    again, _ = load_model(tmp_path / "a")
    assert again.config == model.config
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_a_checkpoint_may_leave_out_the_modules_and_the_copies(tmp_path: Path) -> None:
    save_model(initialise(Decoder(LATENT), 0), None, tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    copies = ("embed_tokens.weight", "shared_head.head.weight")
    kept = {name: t for name, t in tensors.items() if not ("model.layers." in name and name.endswith(copies))}
    save_file(kept, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    assert load_model(tmp_path / "a")[0].config.num_nextn_predict_layers == 2
    kept = {
        name: t for name, t in kept.items() if not name.startswith(("model.layers.2.", "model.layers.3."))
    }
    save_file(kept, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    assert load_model(tmp_path / "a")[0].config.num_nextn_predict_layers == 0
    export(tmp_path / "a", tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["num_nextn_predict_layers"] == 0


def test_a_copy_that_differs_is_refused(tmp_path: Path) -> None:
    save_model(initialise(Decoder(LATENT), 0), None, tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    tensors["model.layers.3.embed_tokens.weight"][4, 2] += 1
    save_file(tensors, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.layers\.3\.embed_tokens\.weight should equal"):
        load_model(tmp_path / "a")


@pytest.mark.parametrize("stored", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_tied_head_may_stand_under_either_name(tmp_path: Path, stored: str) -> None:
    config = ModelConfig(50, 16, 20, 1, 2, 1, 8, qk_norm=True, tie_word_embeddings=True)
    model = initialise(Decoder(config), 0)
    save_model(model, None, tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    tensors = {stored if name == "model.embed_tokens.weight" else name: t for name, t in tensors.items()}
    save_file(tensors, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    again, _ = load_model(tmp_path / "a")
    assert torch.equal(again.head_weight, model.head_weight)
    export(tmp_path / "a", tmp_path / "b")
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


def test_configurations_come_back_as_they_were(tmp_path: Path) -> None:
    for number, config in enumerate(
        (LATENT, dataclasses.replace(LATENT, eos_token_id=(1, 2), pad_token_id=3))
    ):
        save_model(initialise(Decoder(config), 0), None, tmp_path / str(number))
        assert load_model(tmp_path / str(number))[0].config == config


def test_operators_say_where_each_tensor_stands() -> None:
    parameter = torch.arange(24).view(2, 6, 2)
    operators = (
        stack(r"^w$", "{}.w"),
        split(r"^(\d)\.w$", (r"\1.gate", r"\1.up")),
        rename(r"^1\.up$", "last"),
    )
    pieces = {piece.name: piece for piece in take_apart("w", (2, 6, 2), operators)}
    assert list(pieces) == ["0.gate", "0.up", "1.gate", "last"]
    assert all(tuple(piece.view(parameter).shape) == piece.shape == (3, 2) for piece in pieces.values())
    assert torch.equal(pieces["last"].view(parameter), parameter[1, 3:])
    pieces["0.gate"].view(parameter).fill_(-1)
    assert (parameter[0, :3] == -1).all() and (parameter[0, 3:] >= 0).all()
    (piece,) = take_apart("bias", (4,), (add_axis("bias"),))
    assert piece.shape == (1, 4) and piece.view(torch.zeros(4)).shape == (1, 4)
