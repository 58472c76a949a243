"""Where pretraining text comes from: a literal table of sources, and a document as the model reads it. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from farthing.data.countdown_student import CountdownStudent
from farthing.errors import RecipeError
from farthing.text.bpe import ASSISTANT, END, USER


class Source(Protocol):
    """An endless corpus: a document is a pure function of its index."""

    def document(self, index: int) -> tuple[str, str]:
        """(what is asked, what is answered)."""
        ...


SOURCES: dict[str, type[Any]] = {"countdown_student": CountdownStudent}
# Documents from here on are never trained on: the held-out loss is measured on them.
HELDOUT_START = 1 << 40


def load_source(settings: Mapping[str, Any], task: Mapping[str, Any], seed: int) -> Source:
    """The source that a recipe's `corpus` table names, drawing the recipe's problems; raises RecipeError."""
    given = dict(settings)
    name = given.pop("source", None)
    if name not in SOURCES:
        raise RecipeError(f"corpus.source {name!r} is unknown; choose one of {', '.join(sorted(SOURCES))}")
    try:
        source: Source = SOURCES[name](seed=seed, task=dict(task), **given)
    except TypeError as problem:
        raise RecipeError(f"corpus: {problem}") from problem
    return source


def as_text(asked: str, answered: str) -> str:
    """One document with its control tokens, exactly as the chat template renders the same two turns."""
    return f"{USER}{asked}{ASSISTANT}{answered}{END}"
