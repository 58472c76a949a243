"""What every stage is given: its place in the run, what came before, and where to write what it learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from farthing.cost.hardware import Hardware
from farthing.cost.ledger import Ledger
from farthing.errors import RunError
from farthing.models.adapters import save_adapter
from farthing.models.checkpoint import load_model, save_model
from farthing.models.decoder import Decoder
from farthing.models.lora import LoraConfig
from farthing.models.sources import adapted_base
from farthing.runs.metrics import MetricsLog
from farthing.runs.samples import SampleLog
from farthing.runs.store import RunDir
from farthing.stages.config.base import LearningConfig, StageConfig
from farthing.stages.machine import compute_dtype
from farthing.stages.sections import ModelSection, TaskSection
from farthing.tasks.task import Taskset
from farthing.text.tokenizer import Tokenizer

Config = TypeVar("Config", bound=StageConfig)


@dataclass(frozen=True)
class Context:
    """One stage of one run. `tasks` are all tasksets of the recipe by name, `taskset` is what this stage draws its
    problems from: one of them, or several as one. `tokenizer_dir`, `models` (stage name, or "base" and "final", to
    directory) and `conversations` (stage name to JSONL file) are what the stages before it made."""

    name: str
    config: StageConfig
    recipe: dict[str, Any]
    seed: int
    tasks: dict[str, TaskSection]
    model: ModelSection
    taskset: Taskset
    tasksets: dict[str, Taskset]
    run: RunDir
    metrics: MetricsLog
    samples: SampleLog
    ledger: Ledger
    hardware: Hardware
    tokenizer_dir: Path | None
    models: dict[str, Path]
    conversations: dict[str, Path]

    @property
    def directory(self) -> Path:
        """Where the stage keeps its own files."""
        return self.run.stage_dir(self.name)

    def of(self, kind: type[Config]) -> Config:
        """The stage's configuration, known to be of `kind`."""
        if not isinstance(self.config, kind):
            raise TypeError(f"stage {self.name} has a {type(self.config).__name__}, not a {kind.__name__}")
        return self.config

    @property
    def task_tables(self) -> dict[str, dict[str, Any]]:
        """Each taskset of the recipe as a plain table: its name and its settings."""
        return {name: task.model_dump(mode="json") for name, task in self.tasks.items()}

    def card(self, **about: Any) -> dict[str, Any]:
        """What is written beside a model of this stage: what it was brought up on, and `about`."""
        trained = {name: {"name": task.name, "settings": task.settings} for name, task in self.tasks.items()}
        tasks = {"tasks": trained} if len(trained) > 1 else {"task": next(iter(trained.values()))}
        return {**tasks, "stage": self.name, **about}

    @property
    def made(self) -> list[str]:
        """The stages that have made a model, in their order."""
        return [name for name in self.models if name not in ("base", "final")]

    def compute_dtype(self, dtype: str) -> torch.dtype | None:
        """The dtype of the compute view on this machine; see `machine.compute_dtype`."""
        return compute_dtype(dtype, self.hardware)

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer of this run."""
        source = self.tokenizer_dir or self.models["base"]
        return Tokenizer.load(source)

    def load_model(self, name: str = "final") -> tuple[Decoder, Tokenizer]:
        """A model made before this stage: "base", "final" (the newest), or the name of the stage that made it."""
        model, tokenizer = load_model(self.models[name])
        if tokenizer is None:
            raise RunError(f"{self.models[name]} has no tokenizer: a stage cannot use it")
        return model, tokenizer

    def lora(self) -> LoraConfig | None:
        """How the stage's model is adapted, where it has a table `lora`."""
        table = self.config.lora if isinstance(self.config, LearningConfig) else None
        return None if table is None else LoraConfig(**table.model_dump(exclude_none=True))

    def _base(self) -> str:
        """The directory of the whole weights that the stage's model rests on."""
        began = self.models[self.of(LearningConfig).model].resolve()
        return str((adapted_base(began) or began).resolve())

    def save_model(self, model: Decoder, tokenizer: Tokenizer, **about: Any) -> dict[str, str]:
        """Write the model that the stage has made, or its adapter, and its card; returns the stage's outputs."""
        target, card, settings = self.directory / "model", self.card(**about), self.lora()
        with self.ledger.phase(self.name, "checkpoint"):
            if settings is None:
                save_model(model, tokenizer, target, card)
            else:
                save_adapter(model, settings, target, self._base(), tokenizer=tokenizer, extra=card)
        return {"model": f"stages/{self.name}/model"}

    def progress(self, step: int, steps: int) -> None:
        """Say how far the stage is."""
        self.run.write_status(stage=self.name, stage_state="running", step=step, steps=steps)
