"""What a task is: problems that can be drawn, put into words, and checked.

A taskset is data plus a check that its own gold answers pass. It knows nothing of models, tokens or
training, and imports no torch: a problem is a JSON object, a completion is text, a verdict is a `Score`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, TypedDict

from farthing.config import Strict, parse
from farthing.errors import TaskError
from farthing.tasks.verifiers.format import Form
from farthing.tasks.verifiers.verdict import Verdict

Split = Literal["train", "heldout"]
Problem = dict[str, Any]


class Message(TypedDict):
    """One turn of a conversation, as `text.chat` renders it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Score:
    """The verdict on one completion.

    `correct` is 1.0, 0.0 or something between for graded tasks, and None when the check itself failed: then
    `error` says why, and the sample must be left out of the reward, never counted as wrong. `parts` holds
    the components by name (`accuracy`, `format`, ...), each logged apart by the learner. `answer` is the
    canonical form of the given answer: equal strings are equivalent answers, so it is what majority voting
    counts. None when no answer could be parsed.
    """

    correct: float | None
    parts: dict[str, float] = field(default_factory=dict)
    answer: str | None = None
    error: str | None = None

    @property
    def value(self) -> float | None:
        """The same number as `correct`."""
        return self.correct

    @classmethod
    def of(cls, verdict: Verdict, *, well_formed: bool, **parts: float) -> Score:
        """A verifier's verdict as a score; a check that failed keeps its format part and has no
        accuracy."""
        if verdict.correct is None:
            error = verdict.error or "the check gave no result"
            return cls(None, {"format": float(well_formed), **parts}, verdict.answer, error)
        components = {"accuracy": verdict.correct, "format": float(well_formed), **parts}
        return cls(verdict.correct, components, verdict.answer)


class Taskset(ABC):
    """A family of problems with a split, a wording and a check.

    `problem` is a pure function of the settings, the split and the index: no state, no clock, no call
    order. Train and held-out problems are disjoint in the sense that each taskset documents.

    The `*_` below only tells type checkers that each taskset names the parameters of its own problems; the
    methods are called with keyword arguments.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Strict]] = Strict

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Check the settings and build the taskset; raises TaskError with one line for a bad one."""
        return cls(parse(cls.Settings, settings, f'task "{cls.name}"', TaskError))

    @abstractmethod
    def size(self, split: Split) -> int | None:
        """How many problems the split has; None when they are drawn without end."""

    @abstractmethod
    def problem(self, split: Split, index: int) -> Problem:
        """The problem at `index` of the split, as a JSON object: the keyword arguments of the methods
        below."""

    @abstractmethod
    def messages(self, *_: Any, **problem: Any) -> list[Message]:
        """The conversation that puts the problem to a model."""

    @abstractmethod
    def gold(self, *_: Any, **problem: Any) -> str:
        """A whole completion that must score 1. Only for checking the check, never for a training
        corpus."""

    @abstractmethod
    def score(self, completion: str, *_: Any, **problem: Any) -> Score:
        """The verdict on `completion`: the whole assistant turn as text, without the end token but with
        whatever the chat template had already written for it (such as `<think>`)."""

    def wrong(self, *_: Any, **problem: Any) -> str | None:
        """A whole completion in the right form whose answer is wrong, for checking the check; None where
        none can be made."""
        return None

    def key(self, *_: Any, **problem: Any) -> str:
        """What makes two problems the same one for the split: a key of a held-out problem never occurs in
        train."""
        return json.dumps(problem, sort_keys=True, ensure_ascii=False)

    def form(self, *_: Any, **problem: Any) -> Form | None:
        """The form in which the problem's answer is looked for; None where a completion may earn something in any
        other way, so that its reward is never decided before it ends."""
        return None

    def read(self, line: str) -> Problem | None:
        """The problem that a typed line stands for, in whatever short form the taskset has; None for any
        other line."""
        return None

    def score_many(self, pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        """Verdicts in the order of `pairs` (completion, problem). Tasksets whose check runs in workers
        override this to run them side by side."""
        return [self.score(completion, **problem) for completion, problem in pairs]
