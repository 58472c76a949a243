"""What is settled for several models before any but the first is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from farthing.errors import CheckpointError
from farthing.models.layers import Linear
from farthing.models.packed import suits_strips
from farthing.server.backend import loading
from farthing.server.protocol.models import open_served


def asked(*directories: Path) -> list[dict[str, Any]]:
    return [
        {"directory": str(path), "stop_ids": list(open_served(path, number).stop_ids)}
        for number, path in enumerate(directories)
    ]


def settings(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "models": models,
        "threads": 1,
        "dtype": "float32",
        "quantize": None,
        "context": None,
        "running": None,
        "cache_bytes": 16 << 20,
        "measure_seconds": 0,
    }


@pytest.mark.parametrize(("more", "in_turns"), [(1 << 30, False), (0, True)])
def test_models_whose_weights_do_not_fit_together_take_turns(
    model_directory: Path, caller_directory: Path, monkeypatch: pytest.MonkeyPatch, more: int, in_turns: bool
) -> None:
    monkeypatch.setattr(loading, "memory_bytes", lambda: loading.resident_bytes() + more)
    models = asked(model_directory, caller_directory)
    first, facts, found = loading.prepare(models, settings(models))
    assert found is in_turns
    assert facts[0] is first.facts


def test_what_is_planned_for_a_model_is_what_it_gets_when_it_is_loaded(
    model_directory: Path, caller_directory: Path
) -> None:
    models = asked(model_directory, caller_directory)
    told = settings(models)
    _, facts, _ = loading.prepare(models, told)
    later = loading.load(models[1], told, facts[1]).facts
    measured = {"weight_bytes", "grown_bytes", "load_seconds"}
    assert set(later) - set(facts[1]) <= measured
    assert {key: later[key] for key in facts[1].keys() - measured} == {
        key: value for key, value in facts[1].items() if key not in measured
    }


def test_damaged_weights_of_any_model_are_named_at_the_start(model_directory: Path, tmp_path: Path) -> None:
    for path in model_directory.iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:-40] if path.suffix == ".safetensors" else data)
    models = asked(model_directory, tmp_path)
    with pytest.raises(CheckpointError, match="truncated"):
        loading.prepare(models, settings(models))


@pytest.mark.skipif(
    not suits_strips(16, 2),
    reason="no C++ compiler, FARTHING_FUSED=0, or a processor without dot products of bfloat16 pairs",
)
def test_a_large_model_in_bfloat16_keeps_its_projections_once(
    model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_SMALL", 0)
    models = asked(model_directory)
    model = loading.load(models[0], settings(models) | {"dtype": "bfloat16"}).engine.model
    assert model.head_weight.dtype == torch.bfloat16
    linears = [module for module in model.model.layers.modules() if isinstance(module, Linear)]
    assert linears and not any(linear.weight.numel() for linear in linears)
