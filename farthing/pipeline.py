"""Carrying out a recipe: stage by stage into a run directory, skipping what is finished, ending with the summary.

Every stage reads what the stages before it made and leaves an artifact; running again after any interruption skips
finished stages and continues the one that was interrupted from its last checkpoint.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import farthing
from farthing.cost import ledger as ledgers
from farthing.cost.hardware import Hardware, probe, watts_per_core
from farthing.cost.ledger import Ledger
from farthing.models.sources import local_directory
from farthing.recipe import Recipe, Stage, read
from farthing.report.card import write_card
from farthing.report.page import write_report
from farthing.runs.files import read_json, write_json
from farthing.runs.lineage import stage_fingerprint
from farthing.runs.metrics import MetricsLog, Sink
from farthing.runs.samples import SampleLog
from farthing.runs.sinks import make_sinks
from farthing.runs.store import RunDir
from farthing.stages.config.base import TaskMixConfig
from farthing.stages.evidence import comparisons
from farthing.stages.kinds import KINDS
from farthing.tasks.mixture import Mixture
from farthing.tasks.task import Taskset


def run_recipe(
    recipe_path: str | Path,
    run_dir: str | Path,
    *,
    seed: int | None = None,
    overrides: Iterable[str] = (),
    sinks: Sequence[Sink] = (),
) -> dict[str, Any]:
    """Carry out the recipe, or go on with it; returns the summary, which is also RUN/summary.json."""
    recipe = read(recipe_path, overrides, seed)
    with RunDir.open(
        run_dir, recipe.resolved(), version=farthing.__version__, extendable=recipe.extendable
    ) as run:
        return Pipeline(recipe, run, sinks).carry_out()


class Pipeline:
    """One attempt at one run: its logs, its ledger, and what the finished stages have made so far."""

    def __init__(self, recipe: Recipe, run: RunDir, sinks: Sequence[Sink]) -> None:
        self.recipe, self.run = recipe, run
        self.hardware = prepare_machine(run.path)
        cores, price = self.hardware.cores, recipe.cost.price_per_core_hour
        self.ledger = Ledger(run.path / "ledger.jsonl", run.attempt, cores, price)
        own = make_sinks(recipe.track.sinks, run.path, project=recipe.track.project, config=recipe.resolved())
        about = {"currency": recipe.cost.currency}
        self.metrics = MetricsLog(run.path / "metrics.jsonl", [*sinks, *own], self._spent, about)
        self.samples = SampleLog(run.path / "samples.jsonl")
        self.tasksets = recipe.load_tasksets()
        self.tokenizer_dir: Path | None = None
        self.models: dict[str, Path] = {}
        self.conversations: dict[str, Path] = {}
        self.evaluations: dict[str, dict[str, Any]] = {}
        self.problems: dict[str, dict[str, list[Any]]] = {}
        self.fingerprints: dict[str, str] = {}
        if recipe.model.path is not None:
            given = local_directory(recipe.model.path)
            self.models = {"base": given, "final": given}

    def carry_out(self) -> dict[str, Any]:
        """All stages in order; closes the logs whatever happens."""
        try:
            for stage in self.recipe.stages:
                fingerprint = self._fingerprint(stage)
                if not self.run.is_finished(stage.name, fingerprint):
                    self._run_stage(stage, fingerprint)
                self._take_in(stage)
                self.fingerprints[stage.name] = fingerprint
        finally:
            self.samples.close()
            self.metrics.close()
            self.ledger.close()
        return self._summarise()

    def _fingerprint(self, stage: Stage) -> str:
        settings = stage.config.model_dump(mode="json")
        resolved = self.recipe.resolved()
        shared = {key: resolved[key] for key in ("task", "tasks", "model") if key in resolved}
        return stage_fingerprint(stage.kind, settings | shared, self.recipe.seed, self.fingerprints)

    def _run_stage(self, stage: Stage, fingerprint: str) -> None:
        self.run.write_status("running", stage=stage.name, stage_state="running")
        module = importlib.import_module(KINDS[stage.kind].module)
        outputs = module.run(self._context(stage))
        if "model" in outputs:
            self._place(stage, self.run.path / outputs["model"])
        self.run.write_artifact(stage.name, fingerprint, self.fingerprints, outputs)
        self.run.write_status(stage=stage.name, stage_state="finished")

    def _place(self, stage: Stage, model: Path) -> None:
        """RUN/base is the first model that the run makes and RUN/model the last, whatever their stages are called.

        Done before the stage counts as finished: whoever is killed here does it again.
        """
        from farthing.models.layout import link_directory

        if "base" not in self.models:
            link_directory(model, self.run.path / "base")
        if stage.name == self.recipe.model_stages[-1]:
            link_directory(model, self.run.path / "model")

    def _context(self, stage: Stage) -> Any:
        from farthing.stages.context import Context

        return Context(
            name=stage.name,
            config=stage.config,
            recipe=self.recipe.resolved(),
            seed=self.recipe.seed,
            tasks=self.recipe.tasks,
            model=self.recipe.model,
            taskset=taskset_of(self.recipe, self.tasksets, stage),
            tasksets=self.tasksets,
            run=self.run,
            metrics=self.metrics,
            samples=self.samples,
            ledger=self.ledger,
            hardware=self.hardware,
            tokenizer_dir=self.tokenizer_dir,
            models=dict(self.models),
            conversations=dict(self.conversations),
        )

    def _take_in(self, stage: Stage) -> None:
        """Make what a finished stage left available to the stages after it."""
        artifact = self.run.artifact(stage.name)
        outputs = {} if artifact is None else artifact["outputs"]
        if "tokenizer" in outputs:
            self.tokenizer_dir = self.run.path / outputs["tokenizer"]
        if "model" in outputs:
            path = self.run.path / outputs["model"]
            self.models[stage.name] = self.models["final"] = path
            self.models.setdefault("base", path)
        if "conversations" in outputs:
            self.conversations[stage.name] = self.run.path / outputs["conversations"]
        if "evaluations" in outputs:
            for model, found in read_json(self.run.path / outputs["evaluations"]).items():
                self.evaluations.setdefault(model, {}).update(found)
            for model, found in read_json(self.run.path / outputs["problems"]).items():
                self.problems.setdefault(model, {}).update(found)

    def _spent(self) -> dict[str, float]:
        return {"cost/money": self.ledger.money, "cost/wall_s": self.ledger.wall_s}

    @staticmethod
    def _flat(evaluations: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """By model alone, where the recipe has one taskset."""
        return {model: next(iter(found.values())) for model, found in evaluations.items()}

    def _summarise(self) -> dict[str, Any]:
        """summary.json, the result and its price from the files of the run alone, and report.html beside it."""
        entries = ledgers.read(self.run.path / "ledger.jsonl")
        ledgers.balance(entries)
        hardware, cost = self.hardware, self.recipe.cost
        peak = hardware.gemm_flops_bf16 if hardware.bf16 else hardware.gemm_flops
        watts = cost.watts_per_core or watts_per_core(hardware.processor)[0]
        totals = ledgers.summarize(entries, hardware.cores, cost.price_per_core_hour, peak, watts)
        summary = {
            "name": self.recipe.name,
            "seed": self.recipe.seed,
            "version": farthing.__version__,
            "processor": hardware.processor,
            "cores": hardware.cores,
            "stages": [stage.name for stage in self.recipe.stages],
            "evaluations": self._flat(self.evaluations) if self.recipe.one_task else self.evaluations,
            "comparisons": comparisons(self.problems),
            "wall_s": totals["wall_s"],
            "tokens": totals["tokens"],
            "flops": totals["flops"],
            "cost": {**totals, "currency": cost.currency, "price_per_core_hour": cost.price_per_core_hour},
        }
        write_json(self.run.path / "summary.json", summary)
        write_report(self.run.path)
        write_card(self.run.path)
        return summary


def taskset_of(recipe: Recipe, tasksets: Mapping[str, Taskset], stage: Stage) -> Taskset:
    """What a stage draws its problems from: one of the recipe's tasksets, or several as one."""
    chosen = stage.config.tasks if isinstance(stage.config, TaskMixConfig) else {}
    weights = chosen or dict.fromkeys(tasksets, 1)
    if len(weights) == 1:
        return tasksets[next(iter(weights))]
    return Mixture({name: tasksets[name] for name in weights}, weights, recipe.seed)


def prepare_machine(run_path: Path) -> Hardware:
    """Fix the number of threads for the whole run and measure the machine once; kept in RUN/hardware.json."""
    from farthing.stages.machine import fix_threads, matmul

    hardware = probe()
    fix_threads(max(1, int(hardware.cores)))
    return probe(run_path / "hardware.json", matmul)
