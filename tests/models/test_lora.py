"""Adapters against PEFT, on disk and in what they compute; frozen weights stay as they are until a copy is merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farthing.errors import CheckpointError, UserError
from farthing.models.adapters import load_adapter, save_adapter
from farthing.models.attention import causal
from farthing.models.checkpoint import load_model, save_model
from farthing.models.decoder import Decoder
from farthing.models.export import export
from farthing.models.lora import ATTENTION, LoraConfig, adapt, adapted, merged

# PEFT asks transformers for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

Theirs = Callable[[str], tuple[Any, Path]]
IDS = torch.arange(1, 41).view(2, 20)
SOME = ["qwen2-tied", "qwen3_moe", "deepseek_v3", "ernie4_5_moe"]


def adapted_model(directory: Path, **settings: Any) -> tuple[Decoder, LoraConfig]:
    """A model whose adapters do something."""
    model, _ = load_model(directory)
    config = LoraConfig(r=4, lora_alpha=12.0, **settings)
    adapt(model, config, seed=3)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(0, 0.1, generator=generator)
    return model, config


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.mark.parametrize("kind", SOME)
def test_a_fresh_adapter_changes_nothing_and_alone_can_learn(kind: str, theirs: Theirs) -> None:
    model, _ = load_model(theirs(kind)[1])
    before = model(IDS)
    frozen = {name: parameter.clone() for name, parameter in model.named_parameters()}
    adapt(model, LoraConfig(r=4, experts=True), seed=0)
    assert torch.equal(model(IDS), before)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in model.named_parameters() if "lora_" in name}
    model(IDS).square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert not torch.equal(model(IDS), before)
    assert all(torch.equal(model.get_parameter(name), value) for name, value in frozen.items())


@pytest.mark.parametrize("kind", SOME)
def test_beside_the_weights_or_merged_it_is_one_function(kind: str, theirs: Theirs) -> None:
    model, _ = adapted_model(theirs(kind)[1], experts=True)
    names = {name.rpartition(".")[2] for name, _ in adapted(model)}
    assert "experts" in names or model.config.moe is None
    side_by_side = model(IDS)
    whole = merged(model)
    assert not adapted(whole) and torch.equal(model(IDS), side_by_side)
    assert close(whole(IDS), side_by_side)
    plain, _ = load_model(theirs(kind)[1])
    assert not close(plain(IDS), side_by_side, 1e-2)
    latent = model.logits(model.hidden(IDS, attend=lambda *arguments: causal(*arguments)))
    assert close(latent, side_by_side)


def test_published_weights_and_adapters_go_together(theirs: Theirs) -> None:
    model, _ = adapted_model(theirs("qwen2-tied")[1])
    with torch.no_grad():
        before = model(IDS)
        model.publish(None)
        assert close(model(IDS), before)
        model.publish(torch.bfloat16)
        assert close(model(IDS), before, 0.05)


# PEFT converts adapters of experts to the stacks of transformers 5, and then warns of what it made itself.
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama-odd", {}),
        ("qwen2-tied", {"use_rslora": True}),
        ("deepseek_v3", {"target_modules": ATTENTION}),
        ("qwen3_moe", {"experts": True}),
    ],
)
def test_peft_reads_ours(kind: str, settings: dict[str, Any], theirs: Theirs, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    directory = theirs(kind)[1]
    model, config = adapted_model(directory, **settings)
    save_adapter(model, config, tmp_path / "adapter", base=str(directory))
    their_model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(directory), tmp_path / "adapter"
    )
    with torch.no_grad():
        assert close(their_model.eval()(IDS).logits, model(IDS))


@pytest.mark.parametrize("rslora", [True, False])
def test_we_read_those_of_peft(rslora: bool, theirs: Theirs, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    directory = theirs("qwen3-tied")[1]
    settings = peft.LoraConfig(
        r=4,
        lora_alpha=10,
        target_modules=["q_proj", "v_proj", "down_proj"],
        use_rslora=rslora,
        rank_pattern={"v_proj": 2},
    )
    torch.manual_seed(0)
    their_model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(directory), settings)
    with torch.no_grad():
        for name, parameter in their_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    their_model.save_pretrained(tmp_path / "adapter")
    model, _ = load_model(directory)
    load_adapter(model, tmp_path / "adapter")
    with torch.no_grad():
        assert close(model(IDS), their_model.eval()(IDS).logits)


def test_adapters_of_experts_stand_on_disk_one_by_one(theirs: Theirs, tmp_path: Path) -> None:
    directory = theirs("deepseek_v3")[1]
    model, config = adapted_model(directory, experts=True)
    save_adapter(model, config, tmp_path / "adapter")
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.experts.7.up_proj.lora_A.weight"
    assert stored[name].shape == (4, 32)
    assert "base_model.model.model.layers.0.self_attn.kv_b_proj.lora_B.weight" in stored
    again, _ = load_model(directory)
    assert load_adapter(again, tmp_path / "adapter").r == 4
    assert torch.equal(again(IDS), model(IDS))


@pytest.mark.parametrize("kind", ["llama-untied", "ernie4_5_moe"])
def test_a_merged_export_is_what_the_two_were_together(kind: str, theirs: Theirs, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    directory = theirs(kind)[1]
    model, config = adapted_model(directory, experts=True)
    save_adapter(model, config, tmp_path / "adapter")
    report = export(directory, tmp_path / "whole", adapter=tmp_path / "adapter")
    assert report["merging_moved"] < 1e-5
    with torch.no_grad():
        assert close(AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()(IDS).logits, model(IDS))


def test_a_model_with_adapters_is_not_saved_as_if_it_had_none(theirs: Theirs, tmp_path: Path) -> None:
    model, _ = adapted_model(theirs("llama-untied")[1])
    with pytest.raises(CheckpointError, match="has adapters"):
        save_model(model, None, tmp_path / "model")
    save_model(merged(model), None, tmp_path / "model")


def test_targets_that_do_not_exist_are_refused(theirs: Theirs) -> None:
    model, _ = load_model(theirs("llama-untied")[1])
    with pytest.raises(UserError, match="name no projection"):
        adapt(model, LoraConfig(target_modules=("c_attn",)))


NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(NAME), f"{NAME} is missing"),
        (lambda t: t.update({NAME: torch.zeros(4, 5)}), r"has shape \[4, 5\], expected \[4, 32\]"),
        (lambda t: t.update({NAME: torch.zeros(3, 32)}), "rank"),
        (
            lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32)}),
            "belongs to no projection",
        ),
        (lambda t: t[NAME].fill_(float("nan")), "not finite"),
    ],
)
def test_a_wrong_adapter_is_named_and_leaves_the_model_alone(
    change: Callable[..., object], said: str, theirs: Theirs, tmp_path: Path
) -> None:
    model, config = adapted_model(theirs("llama-untied")[1])
    save_adapter(model, config, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    fresh, _ = load_model(theirs("llama-untied")[1])
    with pytest.raises(CheckpointError, match=said):
        load_adapter(fresh, tmp_path / "adapter")
    assert not adapted(fresh) and all(parameter.requires_grad for parameter in fresh.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": "many"}, "r and lora_alpha"),
    ],
)
def test_settings_that_are_not_computed_are_refused(
    change: dict[str, object], said: str, theirs: Theirs, tmp_path: Path
) -> None:
    model, config = adapted_model(theirs("llama-untied")[1])
    save_adapter(model, config, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=said):
        load_adapter(load_model(theirs("llama-untied")[1])[0], tmp_path / "adapter")
