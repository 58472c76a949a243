"""Arithmetic: chains of sums, differences, products and exact quotients of whole numbers, `12 + 7 * 3 = ?`.

The split is by the expression: it is held out if and only if the first byte of sha256 of its text, such as
"12 + 7 * 3", is below 26, about one in ten.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from farthing.config import Strict
from farthing.errors import TaskError
from farthing.tasks.draws import Draws
from farthing.tasks.task import Message, Problem, Score, Split, Taskset
from farthing.tasks.verifiers import numeric
from farthing.tasks.verifiers.expressions import ExpressionError, parse
from farthing.tasks.verifiers.format import Form, read

HELD_OUT_BELOW = 26
MAX_TRIES = 10_000
_TYPED = re.compile(r"\d{1,6}(?: ?[-+*/] ?\d{1,6}){1,7}")


class ArithmeticSettings(Strict):
    """`terms`: how many numbers; `max_number`: the largest of them; `operations`: some of `+-*/`;
    `negative`: whether the result may be below zero. Results are always whole numbers."""

    terms: int = Field(2, ge=2, le=8)
    max_number: int = Field(99, ge=1, le=999_999)
    operations: str = "+-"
    negative: bool = False
    seed: int = 0
    prompt: Literal["short", "full"] = "short"

    @field_validator("operations")
    @classmethod
    def _known(cls, value: str) -> str:
        if not value or set(value) - set("+-*/"):
            raise ValueError(f'"{value}" must be some of the signs +-*/, for example "+-*"')
        return value


def is_held_out(expression: str) -> bool:
    """Whether this expression, written as in the problem, belongs to the held-out split."""
    return hashlib.sha256(expression.encode()).digest()[0] < HELD_OUT_BELOW


class Arithmetic(Taskset):
    """Problems are `{"expression": "12 + 7"}`."""

    name = "arithmetic"
    Settings: ClassVar[type[ArithmeticSettings]] = ArithmeticSettings
    settings: ArithmeticSettings

    def size(self, split: Split) -> int | None:
        return None

    def problem(self, split: Split, index: int) -> Problem:
        s = self.settings
        draws = Draws("arithmetic", s.seed, split, index)
        for _ in range(MAX_TRIES):
            words = [str(draws.between(1, s.max_number))]
            for _ in range(s.terms - 1):
                words += [draws.choice(s.operations), str(draws.between(1, s.max_number))]
            expression = " ".join(words)
            value = parse(expression).value
            whole = value is not None and value[1] == 1 and (s.negative or value[0] >= 0)
            if whole and is_held_out(expression) == (split == "heldout"):
                return {"expression": expression}
        raise TaskError(
            f'task "arithmetic": no {split} problem can be drawn with these settings; raise max_number'
        )

    def messages(self, *, expression: str) -> list[Message]:
        content = f"{expression} = ?"
        if self.settings.prompt == "full":
            content = (
                f"What is {expression}? Think inside <think> </think>, then write only the number inside"
                " <answer> </answer>."
            )
        return [{"role": "user", "content": content}]

    def read(self, line: str) -> Problem | None:
        """`12 + 7`, with or without `= ?` behind it."""
        text = line.strip().removesuffix("?").rstrip().removesuffix("=").rstrip()
        if _TYPED.fullmatch(text) is None:
            return None
        return {"expression": " ".join(re.findall(r"\d+|[-+*/]", text))}

    def gold(self, *, expression: str) -> str:
        return (
            f"<think>\n{expression} = {_value(expression)}\n</think>\n<answer>{_value(expression)}</answer>"
        )

    def wrong(self, *, expression: str) -> str:
        return f"<think>\nhm\n</think>\n<answer>{_value(expression)}0</answer>".replace(">00<", ">1<")

    def form(self, **problem: Any) -> Form:
        return "tags"

    def score(self, completion: str, *, expression: str) -> Score:
        reading = read(completion)
        verdict = numeric.verify(reading.answer, _value(expression))
        return Score.of(verdict, well_formed=reading.well_formed)


def _value(expression: str) -> str:
    """The exact value as text; raises TaskError for text that is not arithmetic."""
    try:
        return parse(expression).value_text
    except ExpressionError as problem:
        raise TaskError(f'task "arithmetic": {expression[:40]!r}: {problem}') from None
