"""Export: what is written is proved by reading it back; what does not prove itself is not kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from farthing.errors import CheckpointError, NumericsError
from farthing.models import export as module
from farthing.models.checkpoint import load_model, save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.export import export
from farthing.models.headers import read_headers
from farthing.text.bpe import train

Theirs = Callable[[str], tuple[Any, Path]]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model as a run leaves it, with things in config.json that farthing does not read."""
    config = ModelConfig(300, 32, 40, 2, 4, 2, 10, qk_norm=True, eos_token_id=2, initializer_range=0.2)
    model = initialise(Decoder(config), 0)
    save_model(model, train(["one and one is two"], 300), tmp_path / "model", {"task": "countdown"})
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attention_dropout": 0.0, "note": "kept"}))
    return tmp_path / "model"


def stored_dtypes(directory: Path) -> set[str]:
    return {entry.dtype for entry in read_headers(directory).values()}


@pytest.mark.parametrize(
    ("dtype", "expected"), [("bfloat16", "BF16"), ("float16", "F16"), ("float32", "F32")]
)
def test_another_dtype(saved: Path, tmp_path: Path, dtype: str, expected: str) -> None:
    report = export(saved, tmp_path / "out", dtype=dtype)
    assert stored_dtypes(tmp_path / "out") == {expected}
    assert (report["moved"] == 0) is (dtype == "float32") and report["moved"] < 0.05
    assert report["bytes"] == sum((e.end - e.start) for e in read_headers(tmp_path / "out").values())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["torch_dtype"] == dtype and config["note"] == "kept"


def test_everything_a_model_needs_comes_along(saved: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export(saved, tmp_path / "out")
    names = {path.name for path in saved.iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for name in names - {"config.json", "model.safetensors"}:
        assert (tmp_path / "out" / name).read_bytes() == (saved / name).read_bytes()
    ours, tokenizer = load_model(saved)
    assert tokenizer is not None
    ids = tokenizer.encode("one and two")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("one and two") == ids
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        row = torch.tensor([ids])
        assert (theirs(row).logits - ours(row)).abs().max() < 1e-5


def test_8_bits_of_a_mixture(theirs: Theirs, tmp_path: Path) -> None:
    report = export(theirs("deepseek_v3")[1], tmp_path / "eight", dtype="fp8")
    assert stored_dtypes(tmp_path / "eight") == {"BF16", "F8_E4M3", "F32"} and report["moved"] > 0
    entries = read_headers(tmp_path / "eight")
    assert entries["model.layers.1.mlp.experts.3.up_proj.weight_scale_inv"].shape == (1, 1)
    assert entries["model.layers.1.mlp.gate.e_score_correction_bias"].dtype == "F32"
    assert entries["model.layers.1.mlp.gate.weight"].dtype == "BF16"
    assert export(tmp_path / "eight", tmp_path / "again")["moved"] == 0


def test_what_does_not_prove_itself_is_not_kept(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(saved, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    write = module.write_weights

    def careless(directory: Path, items: Any) -> None:
        write(
            directory,
            [module.Item(i.name, i.tensor * (1.001 if "up_proj" in i.name else 1), i.dtype) for i in items],
        )

    monkeypatch.setattr(module, "write_weights", careless)
    with pytest.raises(NumericsError, match="logits differ by up to"):
        export(saved, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_a_code_map_does_not_travel(theirs: Theirs, tmp_path: Path) -> None:
    source = theirs("deepseek_v3-plain")[1]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    named = {"auto_map": {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"}}
    (tmp_path / "in" / "config.json").write_text(
        json.dumps(json.loads((source / "config.json").read_text()) | named)
    )
    export(tmp_path / "in", tmp_path / "out")
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_an_unknown_dtype_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="choose one of"):
        export(saved, tmp_path / "out", dtype="int4")
    assert not (tmp_path / "out").exists()
