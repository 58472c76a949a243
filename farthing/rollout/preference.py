"""What is preferred where nothing can be checked: a seam for reward models, and a rule-based twin beside it.

A preference is one more part of the score, "preference", weighed in `rewards` beside accuracy and format. It judges
what a person is shown, without the thinking, as DeepSeek-R1's helpfulness reward does (arXiv 2501.12948v2, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from farthing.rollout.collect import Scorer
from farthing.tasks.task import Problem, Score
from farthing.text.regions import split


class Preference(Protocol):
    def judge(self, replies: Sequence[tuple[Problem, str]]) -> list[float]:
        """For each problem and reply, thinking left out, how much it is preferred: 0 to 1."""
        ...


class Readable:
    """The twin without a model: a quarter each for saying something, for no broken characters, for no line said twice,
    and for at most `longest` characters."""

    def __init__(self, longest: int = 2000) -> None:
        self.longest = longest

    def judge(self, replies: Sequence[tuple[Problem, str]]) -> list[float]:
        return [self._one(reply.strip()) for _, reply in replies]

    def _one(self, reply: str) -> float:
        if not reply:
            return 0.0
        lines = [line.strip() for line in reply.splitlines() if line.strip()]
        merits = (True, "\ufffd" not in reply, len(lines) == len(set(lines)), len(reply) <= self.longest)
        return sum(merits) / len(merits)


PREFERENCES: dict[str, type[Readable]] = {"readable": Readable}


def preferred(scorer: Scorer, preference: Preference | None) -> Scorer:
    """The same scorer, whose scores have the part "preference" too."""
    if preference is None:
        return scorer

    def score(pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        replies = [(problem, shown(text)) for text, problem in pairs]
        merits = preference.judge(replies)
        return [
            replace(one, parts={**one.parts, "preference": merit})
            for one, merit in zip(scorer(pairs), merits, strict=True)
        ]

    return score


def shown(text: str) -> str:
    """What a person sees of a turn: its answer block, or what stands outside the thinking."""
    regions = split(text)
    return regions.rest if regions.answer is None else regions.answer
