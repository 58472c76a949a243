"""A recipe: an ordered list of stages, the task, the model and the price, all checked before anything runs.

    name, seed, stages = ["tokenizer", "pretrain", "base_eval", "grpo", "final_eval"]
    [task] [model] [cost] [track]      sections; several tasksets are [tasks.NAME] tables instead of [task]
    [base_eval] kind = "evaluate"      one table for each stage; its kind is its name when not given

What is not written is the default; the file is overridden by --set, and the seed by --seed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from farthing import tasks
from farthing.config import Strict, apply_overrides, load_toml, nearest, parse, unknown
from farthing.config import fingerprint as fingerprint_of
from farthing.errors import CheckpointError, DataError, RecipeError
from farthing.stages.config.base import OnModelConfig, StageConfig, TaskMixConfig
from farthing.stages.config.distill import DistillConfig
from farthing.stages.config.evaluate import EvaluateConfig
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.config.pretrain import PretrainConfig
from farthing.stages.config.sft import SftConfig
from farthing.stages.kinds import KINDS
from farthing.stages.sections import CostSection, ModelSection, TaskSection, TrackSection
from farthing.tasks.task import Taskset

SECTIONS: dict[str, type[Strict]] = {
    "task": TaskSection,
    "model": ModelSection,
    "cost": CostSection,
    "track": TrackSection,
}
NAME = r"[A-Za-z0-9_-]+"


class Head(Strict):
    """The keys at the top of a recipe."""

    name: str = Field(min_length=1, description="What the run is called.")
    seed: int = Field(0, ge=0, lt=2**63, description="The only source of chance.")
    stages: list[str] = Field(min_length=1, description="The stages in their order.")


@dataclass(frozen=True)
class Stage:
    """One step of a recipe."""

    name: str
    kind: str
    config: StageConfig


@dataclass(frozen=True)
class Recipe:
    """A recipe that has been checked. `tasks`: its tasksets by name; `one_task`: it was written as [task]."""

    name: str
    seed: int
    stages: tuple[Stage, ...]
    tasks: dict[str, TaskSection]
    one_task: bool
    model: ModelSection
    cost: CostSection
    track: TrackSection

    def stage(self, name: str) -> Stage:
        """The stage called `name`."""
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def model_stages(self) -> list[str]:
        """The stages that make a model, in their order."""
        return [stage.name for stage in self.stages if KINDS[stage.kind].makes_model]

    def resolved(self) -> dict[str, Any]:
        """Every key with its value as plain JSON values, defaults written out, None left out."""
        head = {"name": self.name, "seed": self.seed, "stages": [stage.name for stage in self.stages]}
        plain = self.resolved_tasks()
        tasks = {"task": next(iter(plain.values()))} if self.one_task else {"tasks": plain}
        sections = {"model": self.model.resolved(), "cost": _plain(self.cost), "track": _plain(self.track)}
        stages = {stage.name: {"kind": stage.kind, **_plain(stage.config)} for stage in self.stages}
        return {**head, **tasks, **sections, **stages}

    def resolved_tasks(self) -> dict[str, dict[str, Any]]:
        """Each taskset as a plain table: its name and its settings."""
        return {name: _plain(task) for name, task in self.tasks.items()}

    def load_tasksets(self) -> dict[str, Taskset]:
        """Each taskset of the recipe, its settings checked; raises TaskError."""
        return {name: tasks.load(task.name, **task.settings) for name, task in self.tasks.items()}

    def fingerprint(self) -> str:
        """sha256 of the resolved recipe."""
        return fingerprint_of(self.resolved())

    def extendable(self, key: str, old: Any, new: Any) -> bool:
        """Whether a run of this recipe may be continued although `key` changed: price, trackers, more steps, guards."""
        table, _, name = key.partition(".")
        if table in ("cost", "track") or name.startswith("guards."):
            return True
        config = next((stage.config for stage in self.stages if stage.name == table), None)
        grows = isinstance(old, int) and isinstance(new, int) and new > old
        return config is not None and name in config.EXTENDABLE and grows


def _plain(config: Strict) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_none=True)


def read(path: str | Path, overrides: Iterable[str] = (), seed: int | None = None) -> Recipe:
    """The recipe in a TOML file, with "a.b=value" overrides; raises RecipeError or TaskError, one line each."""
    data = apply_overrides(load_toml(path, RecipeError), overrides, RecipeError)
    if seed is not None:
        data["seed"] = seed
    return from_dict(data, str(path))


def from_dict(data: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from its tables; `where` opens every complaint."""
    head = parse(Head, {key: data[key] for key in Head.model_fields if key in data}, where, RecipeError)
    _check_names(head.stages, where)
    for name in head.stages:
        _check_kind(name, data.get(name, {}), where)
    _check_tables(data, head.stages, where)
    stages = tuple(_stage(name, data.get(name, {}), where) for name in head.stages)
    if "model" not in data:
        raise RecipeError(f"{where}: missing table [model]")
    recipe = Recipe(
        name=head.name,
        seed=head.seed,
        stages=stages,
        tasks=_tasks(data, where),
        one_task="task" in data,
        model=parse(ModelSection, data["model"], f"{where}: [model]", RecipeError),
        cost=parse(CostSection, data.get("cost", {}), f"{where}: [cost]", RecipeError),
        track=parse(TrackSection, data.get("track", {}), f"{where}: [track]", RecipeError),
    )
    _check_model(recipe.model, where)
    _check_order(recipe, where)
    tasksets = recipe.load_tasksets()
    for stage in recipe.stages:
        if isinstance(stage.config, PretrainConfig):
            _check_corpus(stage.config, stage.name, recipe, where)
        if isinstance(stage.config, TaskMixConfig | EvaluateConfig):
            for name in stage.config.tasks:
                if name not in recipe.tasks:
                    raise RecipeError(f"{where}: [{stage.name}]: {unknown(name, recipe.tasks, 'taskset')}")
        if isinstance(stage.config, GrpoConfig) and stage.config.selection == "pass_rate":
            _check_returns([tasksets[name] for name in stage.config.tasks or tasksets], stage.name, where)
    return recipe


def _tasks(data: Mapping[str, Any], where: str) -> dict[str, TaskSection]:
    """The tasksets of a recipe: that of [task], or each [tasks.NAME]."""
    if "task" in data and "tasks" in data:
        raise RecipeError(f"{where}: both [task] and [tasks]: move the one into the other")
    if "task" in data:
        task = parse(TaskSection, data["task"], f"{where}: [task]", RecipeError)
        return {task.name: task}
    if not data.get("tasks"):
        raise RecipeError(f"{where}: missing table [task] (several tasksets are [tasks.NAME] tables)")
    found = {}
    for name, table in data["tasks"].items():
        if not isinstance(table, Mapping) or not re.fullmatch(NAME, name):
            raise RecipeError(f"{where}: tasks.{name} must be a table called with letters, digits, _ and -")
        found[name] = parse(TaskSection, {"name": name, **table}, f"{where}: [tasks.{name}]", RecipeError)
    return found


def _check_names(names: list[str], where: str) -> None:
    for name in names:
        if not re.fullmatch(NAME, name):
            raise RecipeError(f'{where}: a stage cannot be called "{name}"; use letters, digits, _ and -')
        if name in (*SECTIONS, "tasks", *Head.model_fields, "base", "final", "all"):
            raise RecipeError(f'{where}: a stage cannot be called "{name}", that name is taken')
        if names.count(name) > 1:
            raise RecipeError(
                f'{where}: stages: "{name}" is there twice; give the second another name and a kind'
            )


def _check_tables(data: Mapping[str, Any], names: list[str], where: str) -> None:
    """Every key at the top is known, and every table is one."""
    known = [*Head.model_fields, *SECTIONS, "tasks", *names]
    for key, value in data.items():
        if key not in known:
            if key in KINDS or (isinstance(value, dict) and value.get("kind") in list(KINDS)):
                raise RecipeError(f'{where}: [{key}] is not carried out; add "{key}" to stages or delete it')
            raise RecipeError(
                f"{where}: {unknown(key, known, 'table' if isinstance(value, dict) else 'key')}"
            )
        if key not in Head.model_fields and not isinstance(value, dict):
            raise RecipeError(f"{where}: {key} must be a table, [{key}]")


def _check_kind(name: str, table: Any, where: str) -> None:
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where}: {name} must be a table, [{name}]")
    if "kind" in table and table["kind"] not in list(KINDS):
        raise RecipeError(f"{where}: [{name}]: {unknown(str(table['kind']), KINDS, 'kind')}")
    if "kind" not in table and name not in KINDS:
        close = nearest(name, KINDS)
        remedy = f'did you mean "{close}"?' if close else f"give [{name}] a kind: {', '.join(KINDS)}"
        raise RecipeError(f'{where}: stages: no kind of stage is called "{name}"; {remedy}')


def _stage(name: str, table: Mapping[str, Any], where: str) -> Stage:
    kind = table.get("kind", name)
    settings = {key: value for key, value in table.items() if key != "kind"}
    return Stage(name, kind, parse(KINDS[kind].config, settings, f"{where}: [{name}]", RecipeError))


def _check_model(model: ModelSection, where: str) -> None:
    if model.path is None:
        try:
            model.shape(vocab_size=300)  # the real one is known when there is a tokenizer
        except (CheckpointError, RecipeError) as problem:
            said = str(problem).removeprefix("config.json: ")
            raise RecipeError(f"{where}: [model]: {said}") from None


def _check_corpus(config: PretrainConfig, stage: str, recipe: Recipe, where: str) -> None:
    # Imported here because it brings the tokenizers library, which most commands never need.
    from farthing.data.sources import load_source

    try:
        load_source(config.corpus, recipe.resolved_tasks(), recipe.seed)
    except RecipeError as problem:
        raise RecipeError(f"{where}: [{stage}]: {problem}") from None


def _check_returns(tasksets: Iterable[Taskset], stage: str, where: str) -> None:
    """Choosing problems by how they went needs problems that come back."""
    if all(taskset.size("train") is None for taskset in tasksets):
        raise RecipeError(
            f'{where}: [{stage}]: selection = "pass_rate" needs problems that come back, and these tasksets draw new '
            'ones without end; set selection = "in_order"'
        )


def _check_order(recipe: Recipe, where: str) -> None:
    """Each stage finds what it needs: a tokenizer before pretraining, a model before learning and evaluation."""
    starts = recipe.model.path is not None
    done: list[Stage] = []
    for stage in recipe.stages:
        has_tokenizer = starts or any(before.kind == "tokenizer" for before in done)
        models = [before.name for before in done if KINDS[before.kind].makes_model]
        if stage.kind == "tokenizer" and starts:
            raise RecipeError(
                f"{where}: [{stage.name}]: model.path brings its own tokenizer; drop this stage"
            )
        if stage.kind == "pretrain" and starts and not stage.config.reads:
            raise RecipeError(
                f"{where}: [{stage.name}]: model.path is where this run begins; drop this stage"
            )
        if stage.kind in ("pretrain", "student") and not has_tokenizer:
            raise RecipeError(f"{where}: [{stage.name}] needs a tokenizer: put a tokenizer stage before it")
        if isinstance(stage.config, OnModelConfig) and not starts and not models:
            raise RecipeError(
                f"{where}: [{stage.name}] comes before there is a model: put a pretrain stage before it, "
                "or give model.path"
            )
        for model in stage.config.reads:
            _check_model_named(model, stage.name, models, where)
        if isinstance(stage.config, SftConfig):
            _check_conversations(stage.config, stage.name, done, where)
        if isinstance(stage.config, DistillConfig):
            _check_teacher(stage.config, stage.name, models, starts, where)
        done.append(stage)


def _check_model_named(model: str, stage: str, models: list[str], where: str) -> None:
    if model not in ("base", "final", *models):
        choices = ["base", "final", *models]
        raise RecipeError(f"{where}: [{stage}]: {unknown(model, choices, 'model')}")


def _check_teacher(config: DistillConfig, stage: str, models: list[str], starts: bool, where: str) -> None:
    first = "base" if starts else models[0]
    known = {"base": first, "final": models[-1] if models else first}
    student, teacher = (known.get(name, name) for name in (config.model, config.teacher))
    if student == teacher:
        raise RecipeError(
            f'{where}: [{stage}]: "{student}" would be its own teacher; name another: teacher = "STAGE"'
        )


def _check_conversations(config: SftConfig, stage: str, done: list[Stage], where: str) -> None:
    # Imported here for the same reason as the corpus.
    from farthing.data.conversations import read_conversations

    writers = [before.name for before in done if KINDS[before.kind].writes_conversations]
    try:
        for entry in config.data:
            if entry.path is not None:
                read_conversations(entry.path, entry.columns)
            elif entry.stage not in writers:
                raise DataError(
                    unknown(str(entry.stage), writers, "stage")
                    if writers
                    else f'no stage before it writes conversations, so stage = "{entry.stage}" names none'
                )
    except DataError as problem:
        raise RecipeError(f"{where}: [{stage}]: data: {problem}") from None
