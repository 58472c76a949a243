"""Weights of 8 bits: what the stored numbers mean, what we write, and that reading and writing is the identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from farthing.errors import CheckpointError
from farthing.models.checkpoint import load_model, save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.export import export
from farthing.models.fp8 import QUANTISED, dequantise_into, quantise, scale_shape

SHAPES = [(128, 128), (300, 200), (1, 129), (257, 1)]


def slowly(stored: Tensor, scale: Tensor) -> Tensor:
    """Element by element: every number times the scale of its block of 128 x 128."""
    rows, columns = torch.meshgrid(*(torch.arange(n) // 128 for n in stored.shape), indexing="ij")
    return stored.float() * scale[rows, columns]


def random_weight(shape: tuple[int, int]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_mean_stored_times_scale(shape: tuple[int, int]) -> None:
    stored = random_weight(shape).to(torch.float8_e4m3fn)
    scale = torch.rand(scale_shape(shape, (128, 128))) + 0.5
    found = torch.empty(shape)
    dequantise_into(found, stored, scale)
    assert torch.equal(found, slowly(stored, scale))


@pytest.mark.parametrize("shape", SHAPES)
def test_quantised_weights_are_within_half_a_step(shape: tuple[int, int]) -> None:
    weight = random_weight(shape)
    stored, scale = quantise(weight)
    assert stored.dtype == torch.float8_e4m3fn and tuple(scale.shape) == scale_shape(shape, (128, 128))
    # Three bits behind the point: half a step is 1/16 of a number, or half the least number of the block.
    error, bound = (
        (slowly(stored, scale) - weight).abs(),
        weight.abs() / 16 + slowly(torch.ones(shape), scale) * 2**-10,
    )
    assert (error <= bound).all()
    assert (slowly(stored, scale).abs().amax() - weight.abs().amax()).abs() <= 1e-6


def test_a_block_of_zeros_stays_zero() -> None:
    stored, scale = quantise(torch.zeros(130, 130))
    assert not slowly(stored, scale).any() and (scale > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_known_scales_are_kept_while_they_reproduce_the_weight(dtype: torch.dtype) -> None:
    """Scales of a power of two, say, which we would not have chosen."""
    stored = random_weight((300, 200)).mul(300).to(torch.float8_e4m3fn)
    scale = torch.full(scale_shape((300, 200), (128, 128)), 2.0**-9)
    weight = torch.empty(300, 200, dtype=dtype)
    dequantise_into(weight, stored, scale)
    again, kept = quantise(weight, known=scale)
    assert torch.equal(again.view(torch.uint8), stored.view(torch.uint8)) and torch.equal(kept, scale)
    weight[0, 0] += 1
    _, fresh = quantise(weight, known=scale)
    assert not torch.equal(fresh, scale)


def test_what_is_stored_in_8_bits() -> None:
    yes = (
        "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
        "model.layers.9.self_attn.q_b_proj.weight",
        "model.layers.3.mlp.experts.255.down_proj.weight",
        "model.layers.3.mlp.shared_experts.up_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
    )
    no = (
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.3.mlp.gate.weight",
        "model.layers.61.eh_proj.weight",
        "model.layers.0.self_attn.kv_a_layernorm.weight",
        "model.layers.0.self_attn.q_proj.bias",
    )
    assert all(QUANTISED.search(name) for name in yes) and not any(QUANTISED.search(name) for name in no)


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    """A small model in 8 bits, its scales in another shard than its weights."""
    config = ModelConfig(90, 160, 200, 2, 4, 2, 40, qk_norm=True, initializer_range=0.1)
    save_model(initialise(Decoder(config), 0), None, tmp_path / "wide")
    export(tmp_path / "wide", tmp_path / "eight", dtype="fp8")
    tensors = load_file(tmp_path / "eight" / "model.safetensors")
    (tmp_path / "eight" / "model.safetensors").unlink()
    weight_map = {}
    for number, scales in enumerate((False, True)):
        part = {name: tensor for name, tensor in tensors.items() if name.endswith("_scale_inv") is scales}
        weight_map |= dict.fromkeys(part, f"part-{number}.safetensors")
        save_file(part, tmp_path / "eight" / f"part-{number}.safetensors", {"format": "pt"})
    (tmp_path / "eight" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path / "eight"


def all_tensors(directory: Path) -> dict[str, Tensor]:
    return {name: t for path in directory.glob("*.safetensors") for name, t in load_file(path).items()}


def test_a_model_in_8_bits_is_read_and_written_back_bit_by_bit(eight: Path, tmp_path: Path) -> None:
    stored = all_tensors(eight)
    name = "model.layers.1.mlp.down_proj.weight"
    assert stored[name].dtype == torch.float8_e4m3fn
    assert stored[name + "_scale_inv"].shape == scale_shape((160, 200), (128, 128))
    model, _ = load_model(eight)
    expected = slowly(stored[name], stored[name + "_scale_inv"])
    assert torch.equal(model.state_dict()[name], expected)
    half, _ = load_model(eight, dtype="bfloat16")
    assert torch.equal(half.state_dict()[name], expected.bfloat16())
    report = export(eight, tmp_path / "again")
    again = all_tensors(tmp_path / "again")
    assert again.keys() == stored.keys() and report["moved"] == 0
    assert all(torch.equal(again[n].view(torch.uint8), t.view(torch.uint8)) for n, t in stored.items())
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["quantization_config"]["weight_block_size"] == [128, 128]


def test_8_bits_become_ordinary_ones(eight: Path, tmp_path: Path) -> None:
    export(eight, tmp_path / "half", dtype="bfloat16")
    assert {t.dtype for t in all_tensors(tmp_path / "half").values()} == {torch.bfloat16}
    assert "quantization_config" not in json.loads((tmp_path / "half" / "config.json").read_text())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, n: t.pop(n), r"8 bits per number, but there is no .*_scale_inv"),
        (lambda t, n: t.update({n: torch.ones(2, 1)}), r"_scale_inv has shape \[2, 1\], not \[2, 2\]"),
        (lambda t, n: t.update({n: torch.full((2, 2), float("nan"))}), "not finite"),
        (
            lambda t, n: t.update({"lm_head.weight_scale_inv": torch.ones(1, 1)}),
            "lm_head.weight_scale_inv is not part",
        ),
    ],
)
def test_a_wrong_scale_is_named(eight: Path, change: object, said: str) -> None:
    path, name = eight / "part-1.safetensors", "model.layers.1.mlp.down_proj.weight_scale_inv"
    tensors = load_file(path)
    change(tensors, name)  # type: ignore[operator]
    save_file(tensors, path, {"format": "pt"})
    index = eight / "model.safetensors.index.json"
    weight_map = {n: f for n, f in json.loads(index.read_text())["weight_map"].items() if f != path.name}
    index.write_text(json.dumps({"weight_map": weight_map | dict.fromkeys(tensors, path.name)}))
    with pytest.raises(CheckpointError, match=said):
        load_model(eight)
