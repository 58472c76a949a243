"""Any dataset of the reasoning-gym library by name (extra `gym`): its problems, its own scoring, our split.

A problem is held out if and only if the first byte of sha256 of its question is below 26, about one in ten;
so small datasets never show a held-out question in train. Scoring is the dataset's own and runs in workers,
because some of it computes what the completion says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import Field

from farthing.config import Strict, unknown
from farthing.errors import TaskError
from farthing.tasks.judge import Limits
from farthing.tasks.sandbox import Outcome
from farthing.tasks.task import Message, Problem, Score, Split, Taskset
from farthing.tasks.tasksets.jsonl import PROMPTS
from farthing.tasks.verifiers.format import Form, Reading, read

HELD_OUT_BELOW = 26
MAX_TRIES = 2_000
_TARGET = "farthing.tasks.tasksets.gym:score_entry"
_CHUNK = 128
_SEED_STEP = 1_000_003
# Entries tried for one problem before its neighbour's are tried too (which would only mean a question seen twice).
_ROOM: dict[Split, int] = {"train": 4, "heldout": 64}


class GymSettings(Strict):
    """`dataset`: a name such as "leg_counting"; `config`: that dataset's own settings. With `graded` the
    dataset's partial marks count, otherwise only full marks are correct."""

    dataset: str
    config: dict[str, Any] = Field(default_factory=dict)
    graded: bool = False
    form: Form = "tags"
    prompt: str | None = None
    limits: Limits = Limits()
    seed: int = 0


class Gym(Taskset):
    """Problems are `{"entry": 17, "question": ..., "answer": ...}`; `entry` is the index in the library's
    dataset."""

    name = "gym"
    Settings: ClassVar[type[GymSettings]] = GymSettings
    settings: GymSettings

    def __init__(self, settings: GymSettings) -> None:
        super().__init__(settings)
        self.prompt = PROMPTS[settings.form] if settings.prompt is None else settings.prompt
        for key in {"size", "seed"} & set(settings.config):
            raise TaskError(f'task "gym": config.{key} is the taskset\'s own; leave it out')
        self._config = json.dumps(settings.config, sort_keys=True)
        self._entry(0)

    def size(self, split: Split) -> int | None:
        return None

    def _entry(self, number: int) -> dict[str, Any]:
        return _entry(self.settings.dataset, self._config, self.settings.seed, number)

    def problem(self, split: Split, index: int) -> Problem:
        for attempt in range(MAX_TRIES):
            number = index * _ROOM[split] + attempt
            entry = self._entry(number)
            held = hashlib.sha256(entry["question"].encode()).digest()[0] < HELD_OUT_BELOW
            if held == (split == "heldout"):
                return {"entry": number, "question": entry["question"], "answer": entry["answer"]}
        raise TaskError(
            f'task "gym": {self.settings.dataset} has no {split} problem within {MAX_TRIES} draws;'
            " its questions vary too little with this config"
        )

    def messages(self, *, question: str, entry: int = 0, answer: str | None = None) -> list[Message]:
        return [{"role": "user", "content": self.prompt.replace("{question}", question)}]

    def gold(self, *, answer: str | None, **rest: Any) -> str:
        return self._dressed(answer or "")

    def wrong(self, *, answer: str | None, **rest: Any) -> str | None:
        # Datasets forgive much ("not True" may contain "True"), so nothing near the right answer will do.
        return None if answer is None else self._dressed("zxq")

    def _dressed(self, answer: str) -> str:
        body = {"tags": f"<answer>{answer}</answer>", "boxed": f"\\boxed{{{answer}}}", "free": answer}
        return f"<think>\nhm\n</think>\n{body[self.settings.form]}"

    def key(self, *, question: str, **rest: Any) -> str:
        return question

    def form(self, **problem: Any) -> Form:
        return self.settings.form

    def score(self, completion: str, **problem: Any) -> Score:
        return self.score_many([(completion, problem)])[0]

    def score_many(self, pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        readings = [read(completion, self.settings.form) for completion, _ in pairs]
        asked = [i for i, reading in enumerate(readings) if reading.answer is not None]
        calls = [
            {
                "dataset": self.settings.dataset,
                "config": self._config,
                "seed": self.settings.seed,
                "entry": pairs[i][1]["entry"],
                "answer": readings[i].answer,
            }
            for i in asked
        ]
        pool = self.settings.limits.pool(_TARGET)
        outcomes = dict(zip(asked, pool.run(calls), strict=True)) if calls else {}
        return [self._score(reading, outcomes.get(i)) for i, reading in enumerate(readings)]

    def _score(self, reading: Reading, outcome: Outcome | None) -> Score:
        form = float(reading.well_formed)
        if outcome is None:
            return Score(0.0, {"accuracy": 0.0, "format": form})
        if outcome.error is not None:
            return Score(None, {"format": form}, reading.answer, outcome.error)
        marks = float(outcome.value)
        correct = marks if self.settings.graded else float(marks >= 1.0)
        return Score(correct, {"accuracy": correct, "format": form}, reading.answer)


def _entry(name: str, config: str, seed: int, number: int) -> dict[str, Any]:
    chunk, position = divmod(number, _CHUNK)
    entry: dict[str, Any] = _chunk(name, config, seed + chunk * _SEED_STEP)[position]
    return entry


@lru_cache(maxsize=32)
def _chunk(name: str, config: str, seed: int) -> Any:
    """A dataset of the library with `_CHUNK` entries (some make all their entries when they are created).

    Raises TaskError when the library, the name or the config is not there.
    """
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError:
        raise TaskError('task "gym" needs reasoning-gym: pip install "farthing[gym]"') from None
    if name not in DATASETS:
        raise TaskError(unknown(name, DATASETS, "reasoning-gym dataset"))
    try:
        return create_dataset(name, size=_CHUNK, seed=seed, **json.loads(config))
    except (TypeError, ValueError, AssertionError) as problem:
        raise TaskError(f'task "gym": {name} refuses its config: {" ".join(str(problem).split())}') from None


def score_entry(dataset: str, config: str, seed: int, entry: int, answer: str) -> float:
    """In the worker: the dataset's own marks, 0 to 1, for an answer to one of its entries.

    A ValueError means that the dataset cannot read the answer, which earns nothing; any other error is a
    fault of the check and stays one.
    """
    source = _chunk(dataset, config, seed + entry // _CHUNK * _SEED_STEP)
    asked = source[entry % _CHUNK]
    try:
        return float(source.score_answer(answer, asked))
    except ValueError:
        return 0.0


def warm() -> None:
    """Import the library before the clock of the first call starts."""
    import reasoning_gym  # noqa: F401
