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
    "qwen3": "farthing.models.families.qwen3",
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
    """The family that a `config.json` names; refuses configurations that ask to run code of their own."""
    if data.get("auto_map") and data.get("model_type") not in FAMILIES:
        raise CheckpointError("config.json: auto_map asks for remote code, which farthing never runs")
    model_type = data.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointError("config.json: model_type is missing")
    return find(model_type)
