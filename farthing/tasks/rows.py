"""Problems from JSONL files: read, mapped, split. Every complaint names the file and the line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farthing.config import nearest
from farthing.errors import DataError
from farthing.tasks.task import Problem
from farthing.tasks.verifiers.choice import LETTERS
from farthing.tasks.verifiers.exact import normalise

_SPLIT_SHARE = 2**32
USUAL: dict[str, tuple[str, ...]] = {
    "question": (
        "question",
        "problem",
        "prompt",
        "query",
        "input",
        "instruction",
        "pergunta",
        "pregunta",
        "问题",
    ),
    "answer": (
        "answer",
        "solution",
        "output",
        "response",
        "target",
        "label",
        "resposta",
        "respuesta",
        "答案",
    ),
    "choices": ("choices", "options"),
}
"""What columns are called in most data sets, the surest name first."""


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON object and where it stands."""

    values: dict[str, Any]
    place: str


def read_rows(path: str | Path) -> Iterator[Row]:
    """The objects of a JSONL file, blank lines skipped. Raises DataError for a missing file or a bad
    line."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _row(line, f"{path}:{number}")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: not UTF-8 text ({problem.reason})") from None
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None


def _row(line: str, place: str) -> Row:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as problem:
        raise DataError(f"{place}: not JSON: {problem.msg} at column {problem.colno}") from None
    if not isinstance(values, dict):
        raise DataError(f'{place}: a row must be an object like {{"question": ..., "answer": ...}}')
    return Row(values, place)


def text_of(row: Row, column: str, what: str) -> str:
    """The column as text; numbers are written out. Raises DataError when there is nothing in it."""
    value = row.values.get(column)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise DataError(f"{row.place}: no {what}: {_missing(row, column, what)}")
    return str(value).strip()


def _missing(row: Row, column: str, what: str) -> str:
    if column in row.values:
        shown = json.dumps(row.values[column], ensure_ascii=False)[:40]
        return f'column "{column}" holds {shown}'
    meant = _meant(row, column, what)
    known = f'did you mean columns.{what} = "{meant}"?' if meant else f"the row has: {', '.join(row.values)}"
    return f'there is no column "{column}"; {known}'


def _meant(row: Row, column: str, what: str) -> str | None:
    """The column of the row that was probably meant: for a usual name another usual one, for any other the nearest."""
    usual = [name for name in USUAL[what] if name in row.values]
    close = nearest(column, row.values)
    ordered = [*usual, close] if column in USUAL[what] else [close, *usual]
    return next(filter(None, ordered), None)


def to_problem(
    row: Row, columns: Mapping[str, str], *, answer_after: str = "", keep: bool = False
) -> Problem:
    """`question`, `answer` and, where mapped, `choices` under their own names; with `keep` the other
    columns too."""
    problem: Problem = dict(row.values) if keep else {}
    problem["question"] = text_of(row, columns["question"], "question")
    if "choices" in columns:
        problem["choices"] = _choices(row, columns["choices"])
        problem["answer"] = _letter(row, columns["answer"], columns["choices"], problem["choices"])
        return problem
    answer = text_of(row, columns["answer"], "answer")
    if answer_after:
        _, found, answer = answer.rpartition(answer_after)
        if not found or not answer.strip():
            raise DataError(f'{row.place}: no answer: nothing stands behind "{answer_after}"')
    problem["answer"] = answer.strip()
    return problem


def _choices(row: Row, column: str) -> list[str]:
    """The options: a list of texts, or ARC's {"text": [...], "label": [...]}."""
    if column not in row.values:
        raise DataError(f"{row.place}: no choices: {_missing(row, column, 'choices')}")
    value = row.values[column]
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise DataError(f'{row.place}: column "{column}" must list 2 to {len(LETTERS)} choices')
    return [str(choice) for choice in value]


def _letter(row: Row, column: str, choices_column: str, choices: list[str]) -> str:
    """The right option as a letter, from an index counted from 0, a letter, a label or the option's own
    text."""
    value = row.values.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < len(choices):
            return LETTERS[value]
        raise DataError(f"{row.place}: answer {value} is not among the choices 0 to {len(choices) - 1}")
    answer = text_of(row, column, "answer")
    source = row.values[choices_column]
    labels = [str(label) for label in source.get("label", [])] if isinstance(source, dict) else []
    for known in (labels, list(LETTERS[: len(choices)]), [normalise(choice) for choice in choices]):
        wanted = answer if known is not None and answer in known else normalise(answer)
        if wanted in known:
            return LETTERS[known.index(wanted)]
    raise DataError(f'{row.place}: answer "{answer[:40]}" is none of the choices')


def is_held_out(question: str, share: float) -> bool:
    """Whether a question belongs to the held-out `share` (0 to 1): decided by a hash of its normalised text
    alone, so that equal questions never stand on both sides."""
    digest = hashlib.sha256(normalise(question).encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * _SPLIT_SHARE
