"""Adapters on disk, in PEFT's format: adapter_config.json and adapter_model.safetensors."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from farthing.errors import CheckpointError
from farthing.models.decoder import Decoder
from farthing.models.families.operators import Operator, rename, stack, take_apart
from farthing.models.headers import read_header
from farthing.models.layers import Linear
from farthing.models.layout import describe, replace_directory, write_json
from farthing.models.lora import FEED_FORWARD, ExpertLowRank, LoraConfig, LowRank, adapted, targets
from farthing.models.moe import Experts
from farthing.models.sources import ADAPTER
from farthing.models.weights import Item, Source, is_finite, write_file
from farthing.text.files import read_json
from farthing.text.tokenizer import Tokenizer

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
OPERATORS: tuple[Operator, ...] = (
    stack(r"^(.*\.experts)\.adapter\.(gate|up|down)_(lora_[AB])$", PREFIX + r"\1.{}.\2_proj.\3.weight"),
    rename(r"^(.*)\.adapter\.(lora_[AB])$", PREFIX + r"\1.\2.weight"),
)
EXPERT = re.compile(r"^(.*\.experts)\.\d+\.(?:gate|up|down)_proj$")
# Keys of adapter_config.json with the only values that are computed here; a missing key means the first.
ONLY: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "alpha_pattern": ({}, None),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
}


def stored(model: Decoder) -> dict[str, Tensor]:
    """The adapters' tensors under PEFT's names; views into the model's memory."""
    found = {}
    for name, tensor in model.named_parameters():
        if ".adapter." in name:
            for piece in take_apart(name, tuple(tensor.shape), OPERATORS):
                found[piece.name] = piece.view(tensor.detach())
    return found


def target_names(model: Decoder) -> list[str]:
    """Ends of the adapted projections' names; those of experts are the three every expert has."""
    found = adapted(model)
    linear = {name.rpartition(".")[2] for name, module in found if isinstance(module, Linear)}
    experts = any(isinstance(module, Experts) for _, module in found)
    return sorted(linear | (set(FEED_FORWARD) if experts else set()))


def save_adapter(
    model: Decoder,
    config: LoraConfig,
    directory: str | Path,
    base: str | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write the adapters of `model` for PEFT and vLLM, atomically; `base` is the model they belong to. Its
    config.json and `tokenizer` stand beside them, and `extra` as farthing.json."""
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "use_rslora": config.use_rslora,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": target_names(model),
        "inference_mode": True,
    }
    items = [Item(name, tensor, "F32") for name, tensor in stored(model).items()]

    def fill(temporary: Path) -> None:
        describe(temporary, model.config, tokenizer, extra, "float32")
        write_json(temporary / ADAPTER, described)
        write_file(temporary / WEIGHTS, items)

    replace_directory(Path(directory), fill, marker=ADAPTER)


def load_adapter(model: Decoder, directory: str | Path) -> LoraConfig:
    """Put the adapters of a PEFT directory beside `model`'s projections and freeze the rest; returns their settings.

    Raises CheckpointError for settings that are not computed here, and for tensors that do not fit the model; then the
    model is as it was.
    """
    directory = Path(directory)
    config = _read_config(directory / ADAPTER)
    entries = read_header(directory / WEIGHTS)
    with ExitStack() as stack_:
        source = Source(entries, stack_)
        tensors = {name: source.tensor(name).float().clone() for name in entries}
    plan = _plan(model, tensors, directory / WEIGHTS)
    model.requires_grad_(False)
    for module, rank in plan:
        scale = config.scale(rank)
        if isinstance(module, Experts):
            module.adapter = ExpertLowRank(module, rank, scale)
        else:
            module.adapter = LowRank(module.weight.shape[1], module.weight.shape[0], rank, scale)
    with torch.no_grad():
        for name, view in stored(model).items():
            view.copy_(tensors[name])
    return config


def _plan(model: Decoder, tensors: dict[str, Tensor], path: Path) -> list[tuple[Linear | Experts, int]]:
    """(projection, rank) for everything the tensors adapt, all of it checked."""
    modules = dict(targets(model))
    ranks: dict[str, int] = {}
    for name, tensor in tensors.items():
        owner = re.fullmatch(re.escape(PREFIX) + r"(.*)\.lora_([AB])\.weight", name)
        where = EXPERT.sub(r"\1", owner[1]) if owner else name
        if owner is None or where not in modules:
            raise CheckpointError(f"{path}: {name} belongs to no projection of this model")
        if not is_finite(tensor):
            raise CheckpointError(f"{path}: {name} holds values that are not finite (NaN or infinity)")
        rank = tensor.shape[0 if owner[2] == "A" else -1]
        if ranks.setdefault(where, rank) != rank:
            raise CheckpointError(f"{path}: {name} has rank {rank}, others of {where} have {ranks[where]}")
    plan = [(modules[where], rank) for where, rank in ranks.items()]
    expected: dict[str, tuple[int, ...]] = {}
    for where, rank in ranks.items():
        expected |= _shapes(where, modules[where], rank)
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"{path}: {name} is missing")
        if name not in expected or tuple(tensors[name].shape) != expected[name]:
            raise CheckpointError(
                f"{path}: {name} has shape {list(tensors[name].shape)}, expected {list(expected.get(name, ()))}"
            )
    return plan


def _shapes(where: str, module: Linear | Experts, rank: int) -> dict[str, tuple[int, ...]]:
    """PEFT's names and shapes of one projection's adapter."""
    if isinstance(module, Experts):
        adapter: torch.nn.Module = ExpertLowRank(module, rank, 1.0)
    else:
        adapter = LowRank(module.weight.shape[1], module.weight.shape[0], rank, 1.0)
    return {
        piece.name: piece.shape
        for name, tensor in adapter.named_parameters()
        for piece in take_apart(f"{where}.adapter.{name}", tuple(tensor.shape), OPERATORS)
    }


def _read_config(path: Path) -> LoraConfig:
    data = read_json(path)
    for key, allowed in ONLY.items():
        if data.get(key, allowed[0]) not in allowed:
            raise CheckpointError(f"{path}: {key} = {data[key]!r} is not supported, only {allowed[0]!r}")
    names = data.get("target_modules") or []
    try:
        return LoraConfig(
            r=int(data["r"]),
            lora_alpha=float(data["lora_alpha"]),
            target_modules=(names,) if isinstance(names, str) else tuple(names),
            use_rslora=bool(data.get("use_rslora", False)),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise CheckpointError(f"{path}: r and lora_alpha have to be numbers ({problem!r})") from None
