"""Where pretraining text comes from: a literal table of sources, and a document as the model reads it. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from farthing.config import unknown
from farthing.data.countdown_student import CountdownStudent
from farthing.data.stories_student import StoriesStudent
from farthing.errors import RecipeError
from farthing.tasks.draws import interleaved
from farthing.text.bpe import ASSISTANT, END, USER

Table = Mapping[str, Any]


class Source(Protocol):
    """An endless corpus: a document is a pure function of its index."""

    def document(self, index: int) -> tuple[str, str]:
        """(what is asked, what is answered)."""
        ...


# name -> the source, and the taskset whose training problems it draws.
SOURCES: dict[str, tuple[type[Any], str]] = {
    "countdown_student": (CountdownStudent, "countdown"),
    "stories_student": (StoriesStudent, "stories"),
}
# Documents from here on are never trained on: the held-out loss is measured on them.
HELDOUT_START = 1 << 40


class Interleaved:
    """Several sources as one: of every sum(weights) documents in a row, each has as many as its weight."""

    def __init__(self, sources: Mapping[str, Source], weights: Mapping[str, int], seed: int) -> None:
        self.sources, self.weights, self.seed = dict(sources), dict(weights), seed

    def document(self, index: int) -> tuple[str, str]:
        name, own = interleaved(("corpus", self.seed), self.weights, index)
        return self.sources[name].document(own)


def load_source(corpus: Table, tasks: Mapping[str, Table], seed: int) -> Source:
    """The corpus of a recipe: one table with a `source`, or a table of such tables, each with a `weight`.

    `tasks`: the recipe's tasksets, each with its `name` and settings. A source draws the training problems of the
    taskset that its `task` names, or of the only one of its kind. Raises RecipeError.
    """
    if "source" in corpus or not corpus:
        return _one_source(corpus, tasks, seed, "corpus")
    weights, sources = {}, {}
    for name, table in corpus.items():
        where = f"corpus.{name}"
        if not isinstance(table, Mapping):
            raise RecipeError(f"{where} must be a table with a source")
        weights[name] = weight = table.get("weight", 1)
        if not isinstance(weight, int) or isinstance(weight, bool) or weight < 1:
            raise RecipeError(f"{where}.weight = {weight!r}: should be a whole number of at least 1")
        own = {key: value for key, value in table.items() if key != "weight"}
        sources[name] = _one_source(own, tasks, seed, where)
    return Interleaved(sources, weights, seed)


def _one_source(corpus: Table, tasks: Mapping[str, Table], seed: int, where: str) -> Source:
    given = dict(corpus)
    name, task = given.pop("source", None), given.pop("task", None)
    if name not in SOURCES:
        raise RecipeError(f"{where}.source {name!r} is unknown; choose one of {', '.join(sorted(SOURCES))}")
    make, kind = SOURCES[name]
    own = [table for known, table in tasks.items() if (known == task if task else table["name"] == kind)]
    if task and not own:
        raise RecipeError(f"{where}.task: {unknown(str(task), tasks, 'taskset')}")
    if len(own) != 1:
        few = f"the recipe has {'none' if not own else 'several'}"
        raise RecipeError(
            f"{where}: {name} draws the problems of a {kind} taskset and {few}; name it: task = ..."
        )
    settings = {key: value for key, value in own[0].items() if key != "name"}
    try:
        source: Source = make(seed=seed, task=settings, **given)
    except TypeError as problem:
        raise RecipeError(f"{where}: {problem}") from problem
    return source


def as_text(asked: str, answered: str) -> str:
    """One document with its control tokens, exactly as the chat template renders the same two turns."""
    return f"{USER}{asked}{ASSISTANT}{answered}{END}"
