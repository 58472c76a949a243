"""`farthing compare`: two models, the same problems, and whether one is better."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from farthing.cli.options import (
    AsJson,
    MaxNewTokens,
    Problems,
    Seed,
    TaskName,
    TaskSettings,
    Temperature,
    task_settings,
)


def compare(
    model_a: Annotated[Path, typer.Argument(metavar="MODEL_A", help="A model directory or a run directory.")],
    model_b: Annotated[Path, typer.Argument(metavar="MODEL_B", help="The same; the difference is B - A.")],
    task: TaskName = None,
    task_set: TaskSettings = None,
    n: Problems = 200,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples for each of them.")] = 4,
    seed: Seed = 0,
    temperature: Temperature = 1.0,
    max_new_tokens: MaxNewTokens = None,
    as_json: AsJson = False,
) -> None:
    """Say whether one model is better than another.

    Both answer the same held-out problems, and what differs from problem to problem cancels; so far fewer are needed
    than two separate evaluations would take.
    """
    from farthing.cli.evaluate import chosen_task
    from farthing.cli.models import CARD, model_directory
    from farthing.text.files import read_json

    first, second = model_directory(model_a), model_directory(model_b)
    cards = [read_json(directory / CARD, missing={}) for directory in (first, second)]
    trained = next((card for card in cards if card.get("task") or card.get("tasks")), {})
    taskset = chosen_task(first, trained, task, task_settings(task_set))

    from farthing.stages.evaluate import ask_model
    from farthing.stages.evidence import Plan, comparison, rates, sentence

    longest = max_new_tokens or max(int(card.get("max_new_tokens", 0)) for card in cards) or 512
    plan = Plan(n, samples, temperature=temperature, max_new_tokens=longest, seed=seed)
    plan = plan.within(taskset.size(plan.split))
    print(f"{plan.problems} problems of {taskset.name}, {samples} samples each, for both", file=sys.stderr)
    asked = [ask_model(directory, taskset, plan) for directory in (first, second)]
    found = comparison(
        str(model_a), str(model_b), task or taskset.name, *(rates(answers, plan) for answers in asked)
    )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    low, high = found["interval"]
    print(f"pass@1: {100 * found['difference']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]")
    print(sentence(found))
