"""Proof that a taskset can be trained on: it accepts its own gold answers, rejects wrong ones, and holds
out what it says it holds out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from farthing.tasks.task import Problem, Score, Split, Taskset

SPLITS: tuple[Split, ...] = ("train", "heldout")
MAX_SHOWN = 20
MAX_KEYS = 20_000


@dataclass
class Report:
    """What was checked, how often, and everything that was wrong (at most 20 lines are kept)."""

    name: str
    sizes: dict[str, int | None] = field(default_factory=dict)
    gold_accepted: int = 0
    wrong_rejected: int = 0
    keys_compared: int = 0
    failures: list[str] = field(default_factory=list)
    failed: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return self.failed == 0

    def fail(self, text: str) -> None:
        """Count a failure and keep its line while there is room."""
        self.failed += 1
        if len(self.failures) < MAX_SHOWN:
            self.failures.append(text)

    def lines(self) -> Iterator[str]:
        """The report in plain words, one fact a line."""
        sizes = ", ".join(f"{split} {'drawn' if n is None else n}" for split, n in self.sizes.items())
        yield f"{self.name}: {sizes}"
        yield f"gold answers accepted: {self.gold_accepted}"
        yield f"wrong answers rejected: {self.wrong_rejected}"
        yield f"train problems compared with the held-out ones: {self.keys_compared}"
        yield from (f"FAILED {failure}" for failure in self.failures)
        if self.failed > len(self.failures):
            yield f"... and {self.failed - len(self.failures)} more failures"
        yield "ok" if self.ok else f"not ok: {self.failed} failures"


def check(taskset: Taskset, n: int = 200) -> Report:
    """Examine up to `n` problems of each split; for finite tasksets the leak check covers up to 20,000 of
    each."""
    report = Report(taskset.name, {split: taskset.size(split) for split in SPLITS})
    if all(size == 0 for size in report.sizes.values()):
        report.fail("there are no problems at all")
    for split in SPLITS:
        problems = list(islice(_problems(taskset, split), n))
        _check_purity(taskset, split, problems, report)
        _check_answers(taskset, split, problems, report)
    _check_leak(taskset, n, report)
    return report


def _problems(taskset: Taskset, split: Split) -> Iterator[Problem]:
    size = taskset.size(split)
    index = 0
    while size is None or index < size:
        yield taskset.problem(split, index)
        index += 1


def _check_purity(taskset: Taskset, split: Split, problems: list[Problem], report: Report) -> None:
    """The same index gives the same problem, as JSON, and it can be put into words."""
    for index, problem in reversed(list(enumerate(problems))):
        where = f"{split} {index}"
        if taskset.problem(split, index) != problem:
            report.fail(f"{where}: drawn twice, it was two different problems")
        if json.loads(json.dumps(problem)) != problem:
            report.fail(f"{where}: the problem does not survive JSON")
        messages = taskset.messages(**problem)
        if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
            report.fail(f"{where}: its conversation does not end with words of the user")


def _check_answers(taskset: Taskset, split: Split, problems: list[Problem], report: Report) -> None:
    golds = [taskset.gold(**problem) for problem in problems]
    wrongs = [taskset.wrong(**problem) for problem in problems]
    tried = [(wrong, problem) for wrong, problem in zip(wrongs, problems, strict=True) if wrong is not None]
    for index, score in enumerate(taskset.score_many(list(zip(golds, problems, strict=True)))):
        if score.correct == 1.0 and score.parts.get("format", 1.0) == 1.0:
            report.gold_accepted += 1
        else:
            report.fail(f"{split} {index}: the gold answer {_shown(golds[index])} scored {_described(score)}")
    for (wrong, _), score in zip(tried, taskset.score_many(tried), strict=True):
        if score.correct is not None and score.correct < 1.0:
            report.wrong_rejected += 1
        else:
            report.fail(f"{split}: a wrong answer {_shown(wrong)} scored {_described(score)}")
    for index, score in enumerate(taskset.score_many([("", problem) for problem in problems[:10]])):
        if score.correct == 1.0:
            report.fail(f"{split} {index}: an empty completion scored 1")


def _check_leak(taskset: Taskset, n: int, report: Report) -> None:
    """No key of a held-out problem among those of train."""
    keys: dict[Split, list[str]] = {}
    for split in SPLITS:
        limit = n if taskset.size(split) is None else MAX_KEYS
        keys[split] = [taskset.key(**problem) for problem in islice(_problems(taskset, split), limit)]
    held = set(keys["heldout"])
    report.keys_compared = len(keys["train"]) if held else 0
    for key in sorted(set(keys["train"]) & held):
        report.fail(f"held-out problem also in train: {_shown(key)}")


def _shown(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 80 else f"...{flat[-77:]}")


def _described(score: Score) -> str:
    if score.correct is None:
        return f"nothing: it could not be scored ({score.error})"
    return f"{score.correct:g} (parts {score.parts}, answer {score.answer!r})"
