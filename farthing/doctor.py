"""A recipe examined before anything is spent: which model each stage of reinforcement learning would begin with, and
what the doctor says about the two."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from farthing.cost.hardware import Hardware, probe
from farthing.errors import RecipeError
from farthing.pipeline import taskset_of
from farthing.recipe import Recipe, Stage, read
from farthing.runs.store import read_artifact, read_config
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.config.tokenizer import TokenizerConfig
from farthing.stages.kinds import KINDS


def examine_recipe(path: Path, overrides: Iterable[str] = (), run_dir: Path | None = None) -> list[Any]:
    """An `Examination` of every stage of reinforcement learning; models that a run has made are taken from `run_dir`.

    Raises RecipeError where the recipe has no such stage, RunError where `run_dir` is no run.
    """
    recipe = read(path, overrides)
    if run_dir is not None:
        read_config(run_dir)
    stages = [stage for stage in recipe.stages if isinstance(stage.config, GrpoConfig)]
    if not stages:
        raise RecipeError(f'{path}: no stage of kind "grpo", so there is no learning from rewards to examine')
    from farthing.stages.machine import fix_threads
    from farthing.stages.preflight import examine

    hardware = probe()
    fix_threads(max(1, int(hardware.cores)))
    return [examine(_subject(recipe, stage, run_dir, hardware)) for stage in stages]


def _subject(recipe: Recipe, stage: Stage, run_dir: Path | None, hardware: Hardware) -> Any:
    from farthing.stages.preflight import Subject

    assert isinstance(stage.config, GrpoConfig)
    maker = _maker(recipe, stage, stage.config.model)
    made = None if run_dir is None else _output(run_dir, maker, "model")
    starts = Path(recipe.model.path) if recipe.model.path is not None and maker is None else None
    vocabulary = next((s for s in recipe.stages if isinstance(s.config, TokenizerConfig)), None)
    shape = None
    if recipe.model.path is None and vocabulary is not None:
        assert isinstance(vocabulary.config, TokenizerConfig)
        shape = recipe.model.shape(vocabulary.config.vocab_size)
    return Subject(
        stage=stage.name,
        config=stage.config,
        taskset=taskset_of(recipe, recipe.load_tasksets(), stage),
        seed=recipe.seed,
        hardware=hardware,
        model=starts or made,
        shape=shape,
        tokenizer_dir=_output(run_dir, None if vocabulary is None else vocabulary.name, "tokenizer"),
        waits_for=maker or "",
    )


def _maker(recipe: Recipe, stage: Stage, model: str) -> str | None:
    """The stage that makes the model called `model` for `stage`; None where that is the one of model.path."""
    before = recipe.stages[: recipe.stages.index(stage)]
    makers = [earlier.name for earlier in before if KINDS[earlier.kind].makes_model]
    if model == "base":
        return None if recipe.model.path is not None else makers[0]
    if model == "final":
        return makers[-1] if makers else None
    return model


def _output(run_dir: Path | None, stage: str | None, what: str) -> Path | None:
    """What a finished stage of the run has left."""
    if run_dir is None or stage is None:
        return None
    artifact = read_artifact(run_dir, stage)
    return run_dir / artifact["outputs"][what] if artifact is not None else None
