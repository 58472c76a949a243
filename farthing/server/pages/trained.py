"""What a model that knows one kind of problem can be asked, and whether its answers are right."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from farthing.errors import FarthingError
from farthing.server.protocol.models import ServedModel
from farthing.tasks.task import Problem, Taskset
from farthing.tasks.trained import trained_task, unseen_problems

# A card comes with the model, perhaps from elsewhere: of the tasks it may name, those that read no file and run no
# checker of somebody's own.
_HARMLESS = frozenset({"countdown", "arithmetic", "gym"})
_EXAMPLES = 12


class TrainedTasks:
    """The tasks of the models that are served, each opened when it is first asked for."""

    def __init__(self) -> None:
        self._opened: dict[int, Trained | None] = {}
        self._known: dict[str, dict[str, Problem]] = {}

    async def of(self, model: ServedModel) -> Trained | None:
        """None for a model that answers anything, or whose task cannot be had here."""
        if model.number not in self._opened:
            # What one model's task drew, another's knows as well: the same is asked of both, and judged.
            known = self._known.setdefault(json.dumps(model.card.get("task"), sort_keys=True), {})
            self._opened[model.number] = await asyncio.to_thread(_open, model, known)
        return self._opened[model.number]


class Trained:
    """The task of one model. `known`: problems that were shown as examples, by their words."""

    def __init__(self, taskset: Taskset, known: dict[str, Problem]) -> None:
        self._taskset = taskset
        self._unseen = unseen_problems(taskset)
        self._known = known

    @property
    def name(self) -> str:
        return self._taskset.name

    async def examples(self) -> list[str]:
        """A few problems the model has never seen, each time others."""
        return await asyncio.to_thread(self._examples)

    def _examples(self) -> list[str]:
        out = []
        for _ in range(_EXAMPLES):
            problem = next(self._unseen)
            text = self._taskset.messages(**problem)[-1]["content"]
            self._known[text] = problem
            out.append(text)
        return out

    def problem(self, text: str) -> Problem | None:
        """The problem that a message puts, in the task's words, in its short form, or as one of the examples."""
        return self._taskset.read(text) or self._known.get(text)

    def messages(self, text: str) -> list[dict[str, Any]]:
        """What the model is told: each message alone, as it was trained."""
        problem = self.problem(text)
        if problem is None:
            return [{"role": "user", "content": text}]
        return [dict(message) for message in self._taskset.messages(**problem)]

    async def judge(self, text: str, thinking: str, answer: str) -> dict[str, Any]:
        """{"verdict": "right", "wrong" or "unscored"} of a whole reply; {} where nobody can tell."""
        problem = self.problem(text)
        if problem is None:
            return {}
        turn = f"<think>\n{thinking}\n</think>\n<answer>{answer}</answer>"
        try:
            score = await asyncio.to_thread(self._taskset.score, turn, **problem)
        except FarthingError:
            return {"verdict": "unscored"}
        if score.correct is None:
            return {"verdict": "unscored"}
        return {"verdict": "right" if score.correct >= 1 else "wrong"}


def _open(model: ServedModel, known: dict[str, Problem]) -> Trained | None:
    task = model.card.get("task")
    if not isinstance(task, dict) or str(task.get("name")).partition(":")[0] not in _HARMLESS:
        return None
    try:
        taskset = trained_task(model.card)
    except (FarthingError, TypeError, ValueError):
        return None
    return None if taskset is None else Trained(taskset, known)
