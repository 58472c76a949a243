"""Word problems in English, Portuguese, Spanish and Chinese: shopping, deliveries, instalments, shifts; one
to three steps.

A story is a skeleton (texts/skeletons.toml: what is drawn, what follows from it, the steps of the solution)
and, for each language, wordings of the question and a sentence for each step (texts/en.toml and so on). All
numbers are whole.

The split is by story and numbers, whatever the language, the wording, the names and the goods: held out if
and only if the first byte of sha256 of "shop_change:c=4,n=3,p=7" (story, then the drawn numbers by name) is
below 26.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from farthing.config import Strict, load_toml
from farthing.errors import TaskError
from farthing.tasks.draws import Draws
from farthing.tasks.task import Message, Problem, Score, Split, Taskset
from farthing.tasks.verifiers import numeric
from farthing.tasks.verifiers.expressions import parse
from farthing.tasks.verifiers.format import Form, read
from farthing.tasks.verifiers.language import consistency

Language = Literal["en", "pt", "es", "zh"]
Theme = Literal["shopping", "deliveries", "instalments", "shifts"]
HELD_OUT_BELOW = 26
MAX_TRIES = 10_000
_TEXTS = Path(__file__).parent / "texts"
_NAME = re.compile(r"[A-Za-z]\w*")
_DECIMAL: dict[str, numeric.Decimal] = {"en": ".", "pt": ",", "es": ",", "zh": "."}


class StoriesSettings(Strict):
    """`steps`: which lengths of solution; `max_number`: how large the drawn numbers get; `themes`,
    `languages`: which to draw from (each as often). `prompt="full"` adds the form and the language to think
    in."""

    languages: list[Language] = Field(["en", "pt", "es", "zh"], min_length=1)
    themes: list[Theme] = Field(["shopping", "deliveries", "instalments", "shifts"], min_length=1)
    steps: list[Literal[1, 2, 3]] = Field([1, 2, 3], min_length=1)
    max_number: int = Field(20, ge=5, le=1000)
    prompt: Literal["short", "full"] = "short"
    seed: int = 0


@dataclass(frozen=True)
class Skeleton:
    """The arithmetic of a story; see the head of texts/skeletons.toml."""

    theme: str
    draw: list[tuple[str, str, str]]
    given: list[tuple[str, str]]
    steps: list[tuple[str, str]]


@lru_cache(maxsize=1)
def skeletons() -> dict[str, Skeleton]:
    """All stories by name."""
    found = {}
    for name, table in load_toml(_TEXTS / "skeletons.toml").items():
        draw = [(variable, str(low), str(high)) for variable, low, high in table["draw"]]
        given, steps = (
            [(variable, formula) for variable, formula in table[key]] for key in ("given", "steps")
        )
        found[name] = Skeleton(table["theme"], draw, given, steps)
    return found


@lru_cache(maxsize=8)
def texts(language: str) -> dict[str, Any]:
    """The words of one language: `people`, `items`, `goods`, `full` and `stories`."""
    return load_toml(_TEXTS / f"{language}.toml")


def evaluate(formula: str, numbers: Mapping[str, int]) -> tuple[int, int]:
    """The exact value of a formula over named numbers, as (numerator, denominator)."""
    value = parse(_NAME.sub(lambda match: f"({numbers[match[0]]})", formula)).value
    assert value is not None
    return value


def _draw_numbers(skeleton: Skeleton, max_number: int, draws: Draws) -> dict[str, int]:
    numbers = {"M": max_number}
    for name, low, high in skeleton.draw:
        bottom, top = evaluate(low, numbers), evaluate(high, numbers)
        numbers[name] = draws.between(ceil(bottom[0] / bottom[1]), floor(top[0] / top[1]))
    del numbers["M"]
    return numbers


def worked_out(skeleton: Skeleton, numbers: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """All numbers of the story (drawn, given and of every step), and the answer."""
    known = dict(numbers)
    for name, formula in [*skeleton.given, *skeleton.steps]:
        known[name], denominator = evaluate(formula, known)
        assert denominator == 1, f"{formula} is not whole for {numbers}"
    return known, known[skeleton.steps[-1][0]]


def story_key(story: str, numbers: Mapping[str, int]) -> str:
    """What the split is decided by: "shop_change:c=4,n=3,p=7"."""
    return f"{story}:{','.join(f'{name}={numbers[name]}' for name in sorted(numbers))}"


def is_held_out(story: str, numbers: Mapping[str, int]) -> bool:
    """Whether a story with these drawn numbers belongs to the held-out split."""
    return hashlib.sha256(story_key(story, numbers).encode()).digest()[0] < HELD_OUT_BELOW


class Stories(Taskset):
    """Problems are `{"language": "pt", "story": "shop_change", "wording": 0, "numbers": {...}, "cast":
    {...}}`: the drawn numbers by name, and the words that fill the places of the text. The score's parts
    are `accuracy`, `format` and `language`, the share of the thinking's words that are in the question's
    language."""

    name = "stories"
    Settings: ClassVar[type[StoriesSettings]] = StoriesSettings
    settings: StoriesSettings

    def __init__(self, settings: StoriesSettings) -> None:
        super().__init__(settings)
        self._stories = [
            name
            for name, skeleton in skeletons().items()
            if skeleton.theme in settings.themes and len(skeleton.steps) in settings.steps
        ]
        if not self._stories:
            raise TaskError(f'task "stories": no story of {settings.themes} has {settings.steps} steps')

    def size(self, split: Split) -> int | None:
        return None

    def problem(self, split: Split, index: int) -> Problem:
        draws = Draws("stories", self.settings.seed, split, index)
        language = draws.choice(self.settings.languages)
        words = texts(language)
        for _ in range(MAX_TRIES):
            story = draws.choice(self._stories)
            numbers = _draw_numbers(skeletons()[story], self.settings.max_number, draws)
            if is_held_out(story, numbers) == (split == "heldout"):
                wording = draws.below(len(words["stories"][story]["ask"]))
                cast = _cast(words, draws)
                return {
                    "language": language,
                    "story": story,
                    "wording": wording,
                    "numbers": numbers,
                    "cast": cast,
                }
        raise TaskError(
            f'task "stories": no {split} problem can be drawn with these settings; raise max_number'
        )

    def messages(
        self, *, language: str, story: str, wording: int, numbers: dict[str, int], cast: dict[str, str]
    ) -> list[Message]:
        words = texts(language)
        known, _ = worked_out(skeletons()[story], numbers)
        content = words["stories"][story]["ask"][wording].format(**known, **cast)
        if self.settings.prompt == "full":
            content = f"{content}\n\n{words['full']}"
        return [{"role": "user", "content": content}]

    def solution(
        self, *, language: str, story: str, numbers: dict[str, int], cast: dict[str, str], **rest: Any
    ) -> list[str]:
        """A right solution in the problem's language, one sentence for each step."""
        known, _ = worked_out(skeletons()[story], numbers)
        steps: list[str] = texts(language)["stories"][story]["steps"]
        return [step.format(**known, **cast) for step in steps]

    def answer(self, *, story: str, numbers: dict[str, int], **rest: Any) -> int:
        """The right answer."""
        return worked_out(skeletons()[story], numbers)[1]

    def gold(self, **problem: Any) -> str:
        thinking = "\n".join(self.solution(**problem))
        return f"<think>\n{thinking}\n</think>\n<answer>{self.answer(**problem)}</answer>"

    def wrong(self, **problem: Any) -> str:
        thinking = "\n".join(self.solution(**problem))
        return f"<think>\n{thinking}\n</think>\n<answer>{self.answer(**problem) + 1}</answer>"

    def key(self, *, story: str, numbers: dict[str, int], **rest: Any) -> str:
        return story_key(story, numbers)

    def form(self, **problem: Any) -> Form:
        return "tags"

    def score(self, completion: str, **problem: Any) -> Score:
        reading = read(completion)
        language = problem["language"]
        verdict = numeric.verify(reading.answer, str(self.answer(**problem)), decimal=_DECIMAL[language])
        spoken = consistency(reading.thinking, language)
        return Score.of(verdict, well_formed=reading.well_formed, language=spoken)


def _cast(words: Mapping[str, Any], draws: Draws) -> dict[str, str]:
    """Who and what the story is about: a person, an expensive thing, and two kinds of goods with their
    words."""
    first, second = draws.shuffled(range(len(words["items"])))[:2]
    cast = {"who": draws.choice(words["people"]), "good": draws.choice(words["goods"])}
    cast |= words["items"][first]
    return cast | {f"{name}2": word for name, word in words["items"][second].items()}
