"""Tasks: what a model is asked, and what counts as right. Torch-free.

taskset = farthing.tasks.load("countdown", count=3)
problem = taskset.problem("train", 0)
taskset.messages(**problem), taskset.score(completion, **problem)
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from farthing.errors import TaskError
from farthing.tasks.task import Message, Problem, Score, Split, Taskset

__all__ = ["TASKSETS", "Message", "Problem", "Score", "Split", "Taskset", "load"]

TASKSETS: dict[str, str] = {
    "countdown": "farthing.tasks.tasksets.countdown:Countdown",
}


def load(name: str, **settings: Any) -> Taskset:
    """The taskset called `name`, with its settings checked.

    Raises TaskError for an unknown name or setting, naming the nearest known one.
    """
    if name not in TASKSETS:
        near = difflib.get_close_matches(name, TASKSETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(TASKSETS))}"
        raise TaskError(f"no taskset is called {name!r}; {hint}")
    module, _, attribute = TASKSETS[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    taskset: Taskset = cls.from_settings(settings)
    return taskset
