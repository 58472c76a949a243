"""Well-known files of problems, loaded by path: the JSONL taskset with each benchmark's columns and
verifier.

One file alone is all held out: benchmarks are for evaluation. Give `path` the training file and
`heldout_path` the test file to train on one and evaluate on the other. Every setting of the JSONL taskset
can be changed.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from farthing.tasks.tasksets.jsonl import Jsonl, JsonlSettings
from farthing.tasks.verifiers.format import Form


class Gsm8kSettings(JsonlSettings):
    """Grade-school word problems: `question`, and `answer` whose number stands behind `####`."""

    heldout_share: float = Field(1.0, ge=0.0, le=1.0)
    answer_after: str = "####"
    verifier: str = "numeric"
    form: Form = "boxed"


class Gsm8k(Jsonl):
    """Grade-school word problems with whole-number answers."""

    name = "gsm8k"
    Settings = Gsm8kSettings


class MathSettings(JsonlSettings):
    """Competition mathematics as in MATH-500: `problem` and `answer` (or `answer = "solution"` for files
    that have only a worked solution with its box)."""

    heldout_share: float = Field(1.0, ge=0.0, le=1.0)
    verifier: str = "math"
    form: Form = "boxed"


class Math500(Jsonl):
    """Competition mathematics, judged by algebra."""

    name = "math500"
    Settings = MathSettings
    default_columns: ClassVar[dict[str, str]] = {"question": "problem", "answer": "answer"}


class Aime(Math500):
    """`problem` and `answer`, a whole number from 0 to 999; leading zeros do not matter."""

    name = "aime"


class ChoiceSettings(JsonlSettings):
    """Multiple choice: `question`, `choices` (a list, or ARC's object) and `answer` (index from 0, letter,
    label or the option's text)."""

    heldout_share: float = Field(1.0, ge=0.0, le=1.0)
    verifier: str = "choice"
    form: Form = "boxed"


class Choice(Jsonl):
    """Multiple choice, answered by letter."""

    name = "choice"
    Settings = ChoiceSettings
    default_columns: ClassVar[dict[str, str]] = {
        "question": "question",
        "answer": "answer",
        "choices": "choices",
    }
