"""Tasks: what a model is asked, and what counts as right. Torch-free.

The whole interface at work:

    taskset = farthing.tasks.load("countdown", count=3)
    problem = taskset.problem("train", 0)
    taskset.messages(**problem), taskset.score(completion, **problem)
"""

from __future__ import annotations

import importlib
from typing import Any

from farthing.config import unknown
from farthing.errors import TaskError
from farthing.tasks.check import Report, check
from farthing.tasks.task import Message, Problem, Score, Split, Taskset

__all__ = ["TASKSETS", "Message", "Problem", "Report", "Score", "Split", "Taskset", "check", "load"]

TASKSETS: dict[str, str] = {
    "countdown": "farthing.tasks.tasksets.countdown:Countdown",
    "arithmetic": "farthing.tasks.tasksets.arithmetic:Arithmetic",
    "gym": "farthing.tasks.tasksets.gym:Gym",
    "jsonl": "farthing.tasks.tasksets.jsonl:Jsonl",
    "gsm8k": "farthing.tasks.tasksets.benchmarks:Gsm8k",
    "math500": "farthing.tasks.tasksets.benchmarks:Math500",
    "aime": "farthing.tasks.tasksets.benchmarks:Aime",
    "choice": "farthing.tasks.tasksets.benchmarks:Choice",
    "stories": "farthing.tasks.tasksets.stories:Stories",
}


def load(name: str, **settings: Any) -> Taskset:
    """The taskset called `name`, with its settings checked; "gym:leg_counting" is short for
    `load("gym", dataset="leg_counting")`.

    Raises TaskError for an unknown name or setting, naming the nearest known one.
    """
    if name.startswith("gym:"):
        name, settings["dataset"] = "gym", name.removeprefix("gym:")
    if name not in TASKSETS:
        raise TaskError(unknown(name, TASKSETS, "taskset"))
    module, _, attribute = TASKSETS[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    taskset: Taskset = cls.from_settings(settings)
    return taskset
