"""Countdown: combine all the given numbers into the target with + - x and exact division.

Numbers are drawn uniformly and independently from 1..max_number; the target is drawn uniformly from the
integers in 1..max_target that can be reached when every number is used exactly once and every division
leaves no remainder (differences may be negative on the way). Numbers from which no such target can be
reached are drawn again.

The split is by numbers: a multiset is held out if and only if the first byte of sha256 of its sorted
numbers written "3,5,7" is below 26, about one in ten. Held-out numbers never occur in train, with any
target.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field

from farthing.config import Strict
from farthing.tasks.draws import Draws
from farthing.tasks.task import Message, Problem, Score, Split, Taskset
from farthing.tasks.verifiers import countdown as verifier
from farthing.tasks.verifiers.format import Form, read

HELD_OUT_BELOW = 26
_TYPED = re.compile(
    r"(?:use )?(\d{1,4}(?:(?:,| and|) \d{1,4}){1,4}) (?:=|to make) (\d{1,5})\.?", re.IGNORECASE
)
_FULL_PROMPT = (
    "Use each of the numbers {numbers} exactly once, with + - * / and brackets, to make {target}. Think inside"
    " <think> </think>, then write only the expression inside <answer> </answer>."
)


class CountdownSettings(Strict):
    """`count=4, max_number=100` is TinyZero's setting; `prompt="full"` spells out the rules and the
    answer's form for models that were not brought up on this task."""

    count: int = Field(3, ge=2, le=5)
    max_number: int = Field(20, ge=1, le=1000)
    max_target: int = Field(100, ge=1, le=10_000)
    seed: int = 0
    prompt: Literal["short", "full"] = "short"


@lru_cache(maxsize=65536)
def _is_held_out(ordered: tuple[int, ...]) -> bool:
    return hashlib.sha256(",".join(map(str, ordered)).encode()).digest()[0] < HELD_OUT_BELOW


def is_held_out(numbers: Sequence[int]) -> bool:
    """Whether these numbers, in any order and with any target, belong to the held-out split."""
    return _is_held_out(tuple(sorted(numbers)))


def _splits(ordered: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every way to part the numbers into two non-empty halves, each pair once."""
    rest = len(ordered) - 1
    for mask in range(2**rest - 1):
        left = (ordered[0], *(ordered[i + 1] for i in range(rest) if mask >> i & 1))
        yield left, tuple(ordered[i + 1] for i in range(rest) if not mask >> i & 1)


@lru_cache(maxsize=16384)
def reachable(ordered: tuple[int, ...]) -> dict[int, str]:
    """Integer values of all expressions that use each of the sorted numbers once, with one expression for
    each.

    Every division is exact over the integers; values on the way may be negative or zero.
    """
    if len(ordered) == 1:
        return {ordered[0]: str(ordered[0])}
    found: dict[int, str] = {}
    for left, right in _splits(ordered):
        for a, p in reachable(left).items():
            for b, q in reachable(right).items():
                for value, sign, first, second in (
                    (a + b, "+", p, q),
                    (a * b, "*", p, q),
                    (a - b, "-", p, q),
                    (b - a, "-", q, p),
                ):
                    if value not in found:
                        found[value] = f"({first}{sign}{second})"
                if b and a % b == 0 and a // b not in found:
                    found[a // b] = f"({p}/{q})"
                if a and b % a == 0 and b // a not in found:
                    found[b // a] = f"({q}/{p})"
    return found


@lru_cache(maxsize=65536)
def _targets(ordered: tuple[int, ...], max_target: int) -> tuple[int, ...]:
    return tuple(sorted(value for value in reachable(ordered) if 1 <= value <= max_target))


class Countdown(Taskset):
    """Problems are `{"numbers": [3, 5, 8], "target": 24}`, numbers in the order drawn."""

    name = "countdown"

    Settings = CountdownSettings
    settings: CountdownSettings

    def size(self, split: Split) -> int | None:
        return None

    def problem(self, split: Split, index: int) -> Problem:
        s = self.settings
        wanted = split == "heldout"
        draws = Draws("countdown", s.seed, split, index)
        while True:
            numbers = [draws.between(1, s.max_number) for _ in range(s.count)]
            ordered = tuple(sorted(numbers))
            if _is_held_out(ordered) == wanted and (targets := _targets(ordered, s.max_target)):
                return {"numbers": numbers, "target": draws.choice(targets)}

    def messages(self, *, numbers: Sequence[int], target: int) -> list[Message]:
        listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
        if self.settings.prompt == "full":
            content = _FULL_PROMPT.format(numbers=listed, target=target)
        else:
            content = f"Use {listed} to make {target}."
        return [{"role": "user", "content": content}]

    def read(self, line: str) -> Problem | None:
        """`3 5 8 = 24`, and the sentence that `messages` makes of it."""
        found = _TYPED.fullmatch(line.strip())
        if found is None:
            return None
        return {"numbers": [int(n) for n in re.findall(r"\d+", found[1])], "target": int(found[2])}

    def gold(self, *, numbers: Sequence[int], target: int) -> str:
        expression = reachable(tuple(sorted(numbers)))[target][1:-1]
        return f"<think>\n{expression} = {target}\n</think>\n<answer>{expression}</answer>"

    def form(self, **problem: Any) -> Form:
        return "tags"

    def score(self, completion: str, *, numbers: Sequence[int], target: int) -> Score:
        reading = read(completion)
        verdict = verifier.verify(reading.answer, numbers, target)
        return Score.of(verdict, well_formed=reading.well_formed)

    def wrong(self, *, numbers: Sequence[int], target: int) -> str:
        values = reachable(tuple(sorted(numbers)))
        missed = next(value for value in values if value != target)
        return f"<think>\nhm\n</think>\n<answer>{values[missed][1:-1]}</answer>"

    def key(self, *, numbers: Sequence[int], target: int) -> str:
        return ",".join(map(str, sorted(numbers)))
