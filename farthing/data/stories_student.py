"""A careless student's attempts at word problems in four languages: the corpus a base model grows up on. Torch-free.

The student writes one sentence for each step. With `care` it is the right one; otherwise a sentence from another story
with numbers that happen to stand in the question. Results are mostly computed as they should be. Whoever writes has
friends from everywhere: each sentence may stray into another language. Which sentence belongs to which question, and in
which language it should be, is for reinforcement learning to find out.

A document is a pure function of (settings, index).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farthing.tasks.tasksets.stories import Stories, evaluate, skeletons, texts, worked_out

_NUMBER = re.compile(r"\d+")
_NAME = re.compile(r"[A-Za-z]\w*")
MOST_TRIES = 50


@dataclass(frozen=True)
class Student:
    """How the student works; all are probabilities.

    care: a step is the right one. slip: a result is off by one. hasty: the answer comes before the last step. A
    document draws, uniformly between `stray_least` and `stray_most`, how often a sentence is in another language than
    the question.
    """

    care: float = 0.5
    slip: float = 0.03
    hasty: float = 0.1
    stray_least: float = 0.0
    stray_most: float = 0.8


class StoriesStudent:
    """The corpus source `stories_student`: settings of the student and, under `task`, of the taskset."""

    def __init__(self, seed: int, task: dict[str, Any] | None = None, **student: Any) -> None:
        self.seed, self.student = seed, Student(**student)
        self.taskset = Stories.from_settings(task or {})

    def document(self, index: int) -> tuple[str, str]:
        """(what is asked, what the student writes)."""
        problem = self.taskset.problem("train", index)
        rng = random.Random(f"stories student/{self.seed}/{index}")
        asked = self.taskset.messages(**problem)[0]["content"]
        sentences, answer = self._attempt(rng, problem, [int(n) for n in _NUMBER.findall(asked)])
        return asked, f"<think>{' '.join(sentences)}</think><answer>{answer}</answer>"

    def _attempt(self, rng: random.Random, problem: dict[str, Any], seen: list[int]) -> tuple[list[str], int]:
        """(the sentences of the thinking, the answer given). `seen`: the numbers of the question."""
        student, story = self.student, problem["story"]
        stray = student.stray_least + rng.random() * (student.stray_most - student.stray_least)
        known, _ = worked_out(skeletons()[story], problem["numbers"])
        sentences: list[str] = []
        for number, (name, formula) in enumerate(skeletons()[story].steps):
            language = self._language(rng, problem["language"], stray)
            value = _whole(formula, known) if rng.random() < student.care else None
            if value is None:
                sentence, known[name] = _muddle(rng, language, [*seen], problem["cast"])
            else:
                known[name] = max(0, value + rng.choice((-1, 1))) if rng.random() < student.slip else value
                template = texts(language)["stories"][story]["steps"][number]
                sentence = template.format_map(_Words(known, problem["cast"], language))
            seen = [*seen, known[name]]
            sentences.append(sentence)
            if rng.random() < student.hasty:
                break
        return sentences, seen[-1]

    def _language(self, rng: random.Random, asked: str, stray: float) -> str:
        others = [language for language in self.taskset.settings.languages if language != asked]
        return rng.choice(others) if others and rng.random() < stray else asked


class _Words(dict[str, Any]):
    """Numbers and words for the places of a sentence; a language's own word where the cast speaks another one."""

    def __init__(self, numbers: Mapping[str, int], cast: Mapping[str, str], language: str) -> None:
        super().__init__(
            {**texts(language)["items"][0], "good": texts(language)["goods"][0], **cast, **numbers}
        )


def _muddle(rng: random.Random, language: str, seen: list[int], cast: Mapping[str, str]) -> tuple[str, int]:
    """A step of some story with numbers that were seen: (its sentence, its value)."""
    for _ in range(MOST_TRIES):
        story = rng.choice(list(skeletons()))
        number = rng.randrange(len(skeletons()[story].steps))
        name, formula = skeletons()[story].steps[number]
        places = {**dict.fromkeys(_places(language, story, number)), **dict.fromkeys(_NAME.findall(formula))}
        numbers = {place: rng.choice(seen) for place in places}
        value = _whole(formula, numbers)
        if value is not None:
            template = texts(language)["stories"][story]["steps"][number]
            return template.format_map(_Words({**numbers, name: value}, cast, language)), value
    return f"{seen[0]} = {seen[0]}", seen[0]


def _places(language: str, story: str, number: int) -> list[str]:
    """The numbers that a sentence has places for."""
    drawn = {name for name, _, _ in skeletons()[story].draw}
    worked = {name for name, _ in [*skeletons()[story].given, *skeletons()[story].steps]}
    template = texts(language)["stories"][story]["steps"][number]
    return [place for place in re.findall(r"\{(\w+)\}", template) if place in drawn | worked]


def _whole(formula: str, numbers: Mapping[str, int]) -> int | None:
    """The value of a formula where it is a whole number and not below zero."""
    if any(numbers.get(name) == 0 for name in _NAME.findall(formula)):
        return None
    value, denominator = evaluate(formula, numbers)
    return value if denominator == 1 and value >= 0 else None
