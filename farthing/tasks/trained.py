"""The one task a model was trained on, by the card that its run wrote beside it, and problems it has never seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from farthing.tasks import load
from farthing.tasks.task import Problem, Taskset


def trained_task(card: Mapping[str, Any]) -> Taskset | None:
    """The taskset the model was trained on, when it was trained on one alone. Raises TaskError."""
    task = card.get("task")
    return load(task["name"], **task.get("settings", {})) if task else None


def unseen_problems(taskset: Taskset | None) -> Iterator[Problem]:
    """Held-out problems in order, over and over where they are finite."""
    if taskset is None:
        return
    size = taskset.size("heldout")
    for index in count():
        yield taskset.problem("heldout", index if size is None else index % size)
