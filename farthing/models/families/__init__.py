"""The families of models farthing reads and writes, one file of data each, in one literal table."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from farthing.errors import CheckpointError
from farthing.models.families.family import Family

# `model_type` in config.json -> the module that describes it.
FAMILIES = {
    "deepseek_v2": "farthing.models.families.deepseek_v2",
    "deepseek_v3": "farthing.models.families.deepseek_v3",
    "ernie4_5": "farthing.models.families.ernie4_5",
    "ernie4_5_moe": "farthing.models.families.ernie4_5_moe",
    "llama": "farthing.models.families.llama",
    "qwen2": "farthing.models.families.qwen2",
    "qwen3": "farthing.models.families.qwen3",
    "qwen3_moe": "farthing.models.families.qwen3_moe",
}


def find(model_type: str) -> Family:
    """The family of a `model_type`; raises CheckpointError with the known ones."""
    if model_type not in FAMILIES:
        near = get_close_matches(model_type, FAMILIES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"farthing knows {', '.join(sorted(FAMILIES))}"
        raise CheckpointError(f"config.json: model_type {model_type!r} is not supported; {hint}")
    family: Family = import_module(FAMILIES[model_type]).FAMILY
    return family


def family_of(data: Mapping[str, Any]) -> Family:
    """The family that a `config.json` names."""
    model_type = data.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointError("config.json: model_type is missing")
    return find(model_type)
