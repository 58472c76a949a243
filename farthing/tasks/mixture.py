"""Several tasksets as one: which one a problem is from is drawn by weight, and each judges its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farthing.tasks.draws import interleaved
from farthing.tasks.task import Message, Problem, Score, Split, Taskset
from farthing.tasks.verifiers.format import Form


class Mixture(Taskset):
    """Problems are `{"taskset": "stories", "problem": {...}}`. Of every sum(weights) problems in a row, each taskset
    has as many as its weight; its own problems come in their own order, none is skipped."""

    name = "mixture"

    def __init__(self, tasksets: Mapping[str, Taskset], weights: Mapping[str, int], seed: int = 0) -> None:
        assert set(tasksets) == set(weights)
        super().__init__({"weights": dict(weights), "seed": seed})
        self.tasksets, self.weights, self.seed = dict(tasksets), dict(weights), seed

    def size(self, split: Split) -> int | None:
        """How many problems there are before the first taskset begins again; None where none ever does."""
        sizes = {name: taskset.size(split) for name, taskset in self.tasksets.items()}
        runs = [size // self.weights[name] for name, size in sizes.items() if size is not None]
        return max(1, min(runs)) * sum(self.weights.values()) if runs else None

    def problem(self, split: Split, index: int) -> Problem:
        name, own = interleaved(("mixture", self.seed, split), self.weights, index)
        return {"taskset": name, "problem": self.tasksets[name].problem(split, own)}

    def messages(self, *, taskset: str, problem: Problem) -> list[Message]:
        return self.tasksets[taskset].messages(**problem)

    def gold(self, *, taskset: str, problem: Problem) -> str:
        return self.tasksets[taskset].gold(**problem)

    def wrong(self, *, taskset: str, problem: Problem) -> str | None:
        return self.tasksets[taskset].wrong(**problem)

    def key(self, *, taskset: str, problem: Problem) -> str:
        return f"{taskset}: {self.tasksets[taskset].key(**problem)}"

    def form(self, *, taskset: str, problem: Problem) -> Form | None:
        return self.tasksets[taskset].form(**problem)

    def read(self, line: str) -> Problem | None:
        """What the first taskset that understands the line makes of it."""
        read = ((name, taskset.read(line)) for name, taskset in self.tasksets.items())
        return next(({"taskset": name, "problem": p} for name, p in read if p is not None), None)

    def score(self, completion: str, *, taskset: str, problem: Problem) -> Score:
        return self.tasksets[taskset].score(completion, **problem)

    def score_many(self, pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        """Each taskset is asked once, so that checks in workers run side by side."""
        scores: dict[int, Score] = {}
        for name, taskset in self.tasksets.items():
            places = [place for place, (_, problem) in enumerate(pairs) if problem["taskset"] == name]
            own: list[tuple[str, Any]] = [(pairs[place][0], pairs[place][1]["problem"]) for place in places]
            scores |= dict(zip(places, taskset.score_many(own), strict=True))
        return [scores[place] for place in range(len(pairs))]
