"""Which problems come next: the training split in its order, without those that had nothing to teach of late."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from farthing.algorithms.advantages import is_dead
from farthing.algorithms.selection import Rests
from farthing.rollout.types import Group
from farthing.tasks.task import Problem, Taskset


class Curriculum:
    """The next problems, as a function of how many were drawn and, with `by_pass_rate` (only for a split of known size,
    whose problems come back), of how those before them went."""

    def __init__(self, taskset: Taskset, by_pass_rate: bool = False) -> None:
        self.taskset, self.drawn = taskset, 0
        self.size = taskset.size("train") or 1
        self.rests = Rests() if by_pass_rate else None
        self._visits: list[tuple[str, int]] = []

    def draw(self, count: int) -> list[Problem]:
        """The next `count` problems that are due."""
        found: list[Problem] = []
        while len(found) < count:
            problem, index = self.taskset.problem("train", self.drawn), self.drawn
            self.drawn += 1
            if self._is_due(problem, index):
                found.append(problem)
        return found

    def _is_due(self, problem: Problem, index: int) -> bool:
        if self.rests is None:
            return True
        key, at = self._key(problem), index // self.size
        due = self.rests.is_due(key, at)
        if due:
            self._visits.append((key, at))
        return due

    def note(self, groups: Sequence[Group]) -> None:
        """How the problems drawn since the last note went, in the order in which they were drawn."""
        if self.rests is None:
            return
        for (key, at), group in zip(self._visits, groups, strict=True):
            self.rests.visited(key, at, taught=not is_dead(group.rewards))
        self._visits.clear()

    def _key(self, problem: Problem) -> str:
        return hashlib.blake2b(self.taskset.key(**problem).encode(), digest_size=8).hexdigest()

    def state(self) -> dict[str, Any]:
        """As JSON, for the checkpoint."""
        return {"drawn": self.drawn, "rests": self.rests.state() if self.rests else {}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
        self.drawn = int(state["drawn"])
        if self.rests is not None:
            self.rests.load_state(state["rests"])
