"""`farthing eval`: one model, one taskset, an honest number."""

import json
from typing import Annotated

import typer

from farthing.cli.options import AsJson, ModelPath, Seed, TaskSettings, Temperature, task_settings


def evaluate(
    model: ModelPath,
    task: Annotated[
        str | None, typer.Option("--task", help="The taskset; the one it was trained on, when not given.")
    ] = None,
    task_set: TaskSettings = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Held-out problems.")] = 500,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples for each of them.")] = 4,
    seed: Seed = 0,
    temperature: Temperature = 1.0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", min=1, help="As long as it was trained to, when not given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on held-out problems.

    pass@1, pass@k and cons@k with their intervals; truncated, unparsable and unscorable answers told apart.
    """
    raise NotImplementedError
