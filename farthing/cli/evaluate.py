"""`farthing eval`: one model, one taskset, an honest number."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farthing.cli.options import (
    AsJson,
    MaxNewTokens,
    ModelPath,
    Problems,
    Quantize,
    Seed,
    TaskName,
    TaskSettings,
    Temperature,
    checked_quantize,
    task_settings,
)
from farthing.errors import UserError

if TYPE_CHECKING:
    from farthing.tasks import Taskset


def evaluate(
    model: ModelPath,
    task: TaskName = None,
    task_set: TaskSettings = None,
    n: Problems = 500,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples for each of them: the k.")] = 4,
    seed: Seed = 0,
    temperature: Temperature = 1.0,
    max_new_tokens: MaxNewTokens = None,
    quantize: Quantize = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on held-out problems.

    pass@1, and with several samples pass@k and cons@k, each with its interval; truncated, unparsable and unscorable
    answers told apart.
    """
    from farthing.cli.models import CARD, model_directory
    from farthing.text.files import read_json

    directory = model_directory(model)
    card = read_json(directory / CARD, missing={})
    taskset = chosen_task(directory, card, task, task_settings(task_set))

    from farthing.stages.evaluate import evaluate_model
    from farthing.stages.evidence import Plan

    plan = Plan(
        problems=n,
        samples=samples,
        vote_problems=n,
        vote_samples=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens or int(card.get("max_new_tokens", 512)),
        seed=seed,
    )
    print(f"{directory}: {n} problems of {taskset.name}, {samples} samples each", file=sys.stderr)
    found = evaluate_model(directory, taskset, plan, quantize=checked_quantize(quantize))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    from rich.console import Console

    from farthing.cli.summary import evaluation_table

    Console(highlight=False).print(evaluation_table({model.name or str(model): found}))


def chosen_task(
    directory: Path, card: Mapping[str, Any], name: str | None, settings: Mapping[str, Any]
) -> "Taskset":
    """The taskset that was asked for; without a name the one the model was trained on, settings on top of its own.

    A name that was trained on does not bring the settings of the training with it: what is asked is what is typed. Of
    several, each has a name in its recipe ([tasks.NAME]), and that name does.
    """
    from farthing.tasks import load

    several = card.get("tasks") or {}
    own = several.get(name) if name is not None else card.get("task")
    if own is not None:
        return load(str(own["name"]), **{**own.get("settings", {}), **settings})
    if name is not None:
        return load(name, **settings)
    if several:
        raise UserError(
            f"{directory}: it was trained on several tasksets; choose --task {' or --task '.join(several)}"
        )
    raise UserError(
        f"{directory}: nothing says what it was trained on; name a taskset, for example --task countdown"
    )
