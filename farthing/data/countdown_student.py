"""A careless student's worked attempts at Countdown: the corpus a base model grows up on. Torch-free.

Nobody solves anything here. The student tries combinations at random, now and then the more promising of two, writes
down what comes out, and stops when it happens to be the target or when patience ends; then an answer is given in the
right form whether it is right or not. What reinforcement learning makes of that is the experiment.

A document is a pure function of (settings, index).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from farthing.tasks import load


@dataclass(frozen=True)
class Student:
    """How the student works. Probabilities per try unless said otherwise.

    Patience differs from day to day: a document draws, uniformly between `give_up_least` and `give_up_most`, the
    probability to stop after a failed try and answer anyway. lean: take the one of two ideas that ends nearer the
    target. forget: not notice that an idea has been tried before. largest: ideas that pass this value on the way are
    dropped. longest: tries after which patience always ends.
    """

    give_up_least: float = 0.05
    give_up_most: float = 0.55
    lean: float = 0.3
    forget: float = 0.1
    largest: int = 400
    longest: int = 24


# A student who never gives up and has run out of ideas stops noticing, too: every document ends.
MOST_REPEATS = 2000


def attempts(
    rng: random.Random, student: Student, numbers: list[int], target: int
) -> tuple[list[str], str, bool]:
    """(one written line per try, the expression answered, whether its value is the target)."""
    give_up = student.give_up_least + rng.random() * (student.give_up_most - student.give_up_least)
    tried: set[str] = set()
    repeats = 0
    lines: list[str] = []
    while True:
        line, expression, value = _idea(rng, student, numbers)
        if rng.random() < student.lean:
            other = _idea(rng, student, numbers)
            if abs(other[2] - target) < abs(value - target):
                line, expression, value = other
        noticed = line in tried and rng.random() >= student.forget and len(tried) < student.longest
        repeats += noticed
        # Noticing a repetition takes patience too, so the search ends even where few ideas exist.
        if noticed and rng.random() >= give_up / 4 and repeats < MOST_REPEATS:
            continue
        tried.add(line)
        lines.append(line)
        if value == target:
            return lines, expression, True
        if len(lines) >= student.longest or rng.random() < give_up:
            return lines, expression, False


def _idea(rng: random.Random, student: Student, numbers: list[int]) -> tuple[str, str, int]:
    """Combine two of what is left until one value remains: (the line as written, the expression, its value)."""
    while True:
        left = [(number, str(number)) for number in numbers]
        written: list[str] = []
        while len(left) > 1:
            first = left.pop(int(rng.random() * len(left)))
            second = left.pop(int(rng.random() * len(left)))
            combined = _combine(rng, first, second, student.largest)
            if combined is None:
                break
            step, value, expression = combined
            written.append(step)
            left.append((value, expression))
        else:
            value, expression = left[0]
            return ",".join(written), expression[1:-1], value


def _combine(
    rng: random.Random, first: tuple[int, str], second: tuple[int, str], largest: int
) -> tuple[str, int, str] | None:
    """One operation drawn among those whose result is a positive whole number within reach, or None."""
    (a, spelled_a), (b, spelled_b) = first, second
    options = [("+", a + b)] if a + b <= largest else []
    if a * b <= largest:
        options.append(("*", a * b))
    if a > b:
        options.append(("-", a - b))
    if b and a % b == 0:
        options.append(("/", a // b))
    if not options:
        return None
    sign, value = options[int(rng.random() * len(options))]
    return f"{a}{sign}{b}={value}", value, f"({spelled_a}{sign}{spelled_b})"


class CountdownStudent:
    """The corpus source `countdown_student`: settings of the student and, under `task`, of the taskset."""

    def __init__(self, seed: int, task: dict[str, Any] | None = None, **student: Any) -> None:
        self.seed, self.student = seed, Student(**student)
        self.taskset = load("countdown", **(task or {}))

    def document(self, index: int) -> tuple[str, str]:
        """(what is asked, what the student writes)."""
        problem = self.taskset.problem("train", index)
        rng = random.Random(f"countdown student/{self.seed}/{index}")
        lines, expression, found = attempts(rng, self.student, problem["numbers"], problem["target"])
        thinking = "\n".join(lines) + ("!" if found else "?")
        asked = self.taskset.messages(**problem)[0]["content"]
        return asked, f"<think>{thinking}</think><answer>{expression}</answer>"
