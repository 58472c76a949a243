"""Problems of your own: a JSONL file, a mapping of its columns, and a verifier by name or as
`file.py:function`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from farthing.config import Strict
from farthing.errors import DataError, TaskError
from farthing.tasks.draws import Draws
from farthing.tasks.judge import Judge, Limits
from farthing.tasks.rows import is_held_out, read_rows, to_problem
from farthing.tasks.task import Message, Problem, Score, Split, Taskset
from farthing.tasks.verifiers.choice import LETTERS
from farthing.tasks.verifiers.format import Form, read
from farthing.tasks.verifiers.language import consistency
from farthing.tasks.verifiers.numeric import find_number

PROMPTS: dict[Form, str] = {
    "tags": "{question}\n\nThink inside <think> </think>, then write only the answer inside <answer> </answer>.",
    "boxed": "{question}\n\nThink step by step, then put the final answer inside \\boxed{}.",
    "free": "{question}",
}


class JsonlSettings(Strict):
    """`path`: the problems. Held out is `heldout_path` where given, otherwise a share of `path` chosen by a
    hash of the question. `columns`: which column holds `question`, `answer` and, for multiple choice,
    `choices`. `answer_after`: the gold answer is what follows this mark in its column. `form`: where a
    completion gives its answer (see `verifiers.format`). `prompt`: holds `{question}`; by default it asks
    for the form. `language`: that of the questions; the score then has the part `language`, the share of
    the thinking that is written in it."""

    path: str
    heldout_path: str | None = None
    heldout_share: float = Field(0.1, ge=0.0, le=1.0)
    columns: dict[Literal["question", "answer", "choices"], str] = Field(default_factory=dict)
    answer_after: str = ""
    verifier: str = "exact"
    options: dict[str, Any] = Field(default_factory=dict)
    form: Form = "tags"
    prompt: str | None = None
    system: str | None = None
    language: Literal["en", "pt", "es", "zh"] | None = None
    limits: Limits = Limits()
    seed: int = 0


class Jsonl(Taskset):
    """Problems are `{"question": ..., "answer": ...}`, with `choices` where mapped, and with all other
    columns where the verifier is a function of the user's.

    An index beyond the end starts again: held-out problems in the order of the file, training problems in a
    new order for each pass.
    """

    name = "jsonl"
    Settings: ClassVar[type[JsonlSettings]] = JsonlSettings
    settings: JsonlSettings
    default_columns: ClassVar[dict[str, str]] = {"question": "question", "answer": "answer"}

    def __init__(self, settings: JsonlSettings) -> None:
        super().__init__(settings)
        self.judge = Judge(
            settings.verifier, options=settings.options, form=settings.form, limits=settings.limits
        )
        self.prompt = PROMPTS[settings.form] if settings.prompt is None else settings.prompt
        if "{question}" not in self.prompt:
            raise TaskError(f'task "{self.name}": prompt must contain {{question}}')
        self._problems = self._load()
        self._order = lru_cache(maxsize=4)(self._new_order)

    def _load(self) -> dict[Split, list[Problem]]:
        s = self.settings
        columns = self.default_columns | {str(name): column for name, column in s.columns.items()}
        problems = {
            path: [
                to_problem(row, columns, answer_after=s.answer_after, keep=self.judge.user)
                for row in read_rows(path)
            ]
            for path in filter(None, (s.path, s.heldout_path))
        }
        for path, found in problems.items():
            if not found:
                raise DataError(f"{path}: no problems in it")
        if s.heldout_path is not None:
            return {"train": problems[s.path], "heldout": problems[s.heldout_path]}
        held = [is_held_out(p["question"], s.heldout_share) for p in problems[s.path]]
        pairs = list(zip(problems[s.path], held, strict=True))
        return {"train": [p for p, out in pairs if not out], "heldout": [p for p, out in pairs if out]}

    def size(self, split: Split) -> int | None:
        return len(self._problems[split])

    def _new_order(self, epoch: int) -> list[int]:
        draws = Draws("jsonl", self.settings.seed, epoch)
        return draws.shuffled(range(len(self._problems["train"])))

    def problem(self, split: Split, index: int) -> Problem:
        problems = self._problems[split]
        if not problems:
            raise TaskError(
                f'task "{self.name}": no {split} problems in {self.settings.path};'
                " set heldout_share between 0 and 1, or heldout_path"
            )
        epoch, position = divmod(index, len(problems))
        return dict(problems[self._order(epoch)[position] if split == "train" else position])

    def messages(self, *, question: str, choices: list[str] | None = None, **rest: Any) -> list[Message]:
        listed = "".join(f"\n{LETTERS[i]}) {choice}" for i, choice in enumerate(choices or []))
        content = self.prompt.replace("{question}", question + listed)
        system: list[Message] = []
        if self.settings.system is not None:
            system = [{"role": "system", "content": self.settings.system}]
        return [*system, {"role": "user", "content": content}]

    def gold(self, *, answer: str, **rest: Any) -> str:
        return _dressed(answer, self.settings.form)

    def wrong(self, *, answer: str, choices: list[str] | None = None, **rest: Any) -> str | None:
        if self.settings.verifier == "format":
            return None
        return _dressed(perturbed(answer, choices or []), self.settings.form)

    def key(self, *, question: str, **rest: Any) -> str:
        return question

    def form(self, **problem: Any) -> Form | None:
        return None if self.judge.user else self.settings.form

    def score(self, completion: str, **problem: Any) -> Score:
        return self.score_many([(completion, problem)])[0]

    def score_many(self, pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        scores = self.judge.score_many(pairs)
        language = self.settings.language
        if language is None:
            return scores
        shares = [
            consistency(read(completion, self.settings.form).thinking, language) for completion, _ in pairs
        ]
        return [
            replace(score, parts={**score.parts, "language": share})
            for score, share in zip(scores, shares, strict=True)
        ]


def _dressed(answer: str, form: Form) -> str:
    body = {"tags": f"<answer>{answer}</answer>", "boxed": f"\\boxed{{{answer}}}", "free": answer}[form]
    return f"<think>\n{answer}\n</think>\n{body}"


def perturbed(answer: str, choices: list[str]) -> str:
    """An answer that is certainly another one."""
    if choices:
        return LETTERS[(LETTERS.index(answer) + 1) % len(choices)]
    number = find_number(answer)
    if number is not None and number.denominator == 1:
        return str(number + 1)
    return "-917/13" if any(c.isdigit() for c in answer) else f"not {answer}"
