"""What an evaluation says: numbers with intervals from judged answers, and how two models compare. Torch-free.

An answer is kept as what the numbers need of it, so that a line of JSON holds a problem and an interrupted evaluation
goes on where it was.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

from farthing.algorithms.estimators import cons, interval, paired_difference, pass_at_k
from farthing.tasks.task import Problem, Split

Evaluation = dict[str, Any]
SURE = 0.95  # from here on one model is called better


@dataclass(frozen=True)
class Plan:
    """How much to sample: `samples` of each of the first `problems`, raised to `vote_samples` on the first
    `vote_problems` of them for pass@k and cons@k."""

    problems: int
    samples: int
    vote_problems: int = 0
    vote_samples: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    split: Split = "heldout"
    seed: int = 0

    def within(self, size: int | None) -> Plan:
        """The same plan for a split of `size` problems, which may have fewer than asked for."""
        if size is None:
            return self
        return replace(self, problems=min(self.problems, size), vote_problems=min(self.vote_problems, size))

    def samples_of(self, index: int) -> int:
        """How many samples the problem at `index` gets."""
        return max(self.samples, self.vote_samples) if index < self.vote_problems else self.samples


@dataclass(frozen=True)
class Answer:
    """One sample as it was judged. `correct` None: it could not be scored. `thinking` is None where there was none."""

    correct: float | None
    answer: str | None
    tokens: int
    thinking: int | None
    truncated: bool
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def right(self) -> float:
        """Its correctness; nothing where it could not be scored, which is reported apart."""
        return self.correct or 0.0

    @property
    def unparsable(self) -> bool:
        return self.correct is not None and self.answer is None and not self.truncated

    @property
    def wrong(self) -> bool:
        return self.correct == 0.0 and self.answer is not None and not self.truncated


@dataclass(frozen=True)
class Asked:
    """One problem with the judged samples of one model. `prompt_ids`: the tokens that it was asked with."""

    problem: Problem
    prompt_ids: list[int]
    answers: list[Answer]

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Asked:
        """From what `record` made."""
        return cls(
            record["problem"], record["prompt_ids"], [Answer(**answer) for answer in record["answers"]]
        )


def verdict(task: str, asked: Sequence[Asked], plan: Plan) -> Evaluation:
    """The numbers of an evaluation. A sample that could not be scored counts as not right and is reported apart."""
    plan = plan.within(len(asked))
    rows = [one.answers[: plan.samples] for one in asked[: plan.problems]]
    answers = [answer for row in rows for answer in row]
    rates = [_mean([answer.right for answer in row]) for row in rows]
    thought = [answer.thinking for answer in answers if answer.thinking is not None]
    result: Evaluation = {
        "task": task,
        "split": plan.split,
        "n": len(rows),
        "samples": plan.samples,
        "temperature": plan.temperature,
        "top_p": plan.top_p,
        "max_new_tokens": plan.max_new_tokens,
        "seed": plan.seed,
        "pass@1": _mean(rates),
        "pass@1_interval": list(interval(rates)),
        "mean_length": _mean([answer.tokens for answer in answers]),
        "thinking_length": _mean(thought) if thought else 0.0,
        "truncated": _mean([answer.truncated for answer in answers]),
        "unparsable": _mean([answer.unparsable for answer in answers]),
        "unscorable": _mean([answer.correct is None for answer in answers]),
        "wrong": _mean([answer.wrong for answer in answers]),
        "prompt_ids": list(asked[0].prompt_ids),
    }
    return result | _language(rows) | _votes(asked[: plan.vote_problems], plan.vote_samples)


def rates(asked: Sequence[Asked], plan: Plan, part: str | None = None) -> list[float]:
    """For each problem the mean over its samples of the correctness, or of a part of the score."""
    rows = [one.answers[: plan.samples] for one in asked[: plan.problems]]
    return [_mean([a.right if part is None else a.parts.get(part, 0.0) for a in row]) for row in rows]


def _language(rows: Sequence[Sequence[Answer]]) -> Evaluation:
    """The share of the thinking in the question's language, where the taskset knows it."""
    if not any("language" in answer.parts for row in rows for answer in row):
        return {}
    spoken = [_mean([answer.parts.get("language", 0.0) for answer in row]) for row in rows]
    return {"language": _mean(spoken), "language_interval": list(interval(spoken))}


def _votes(asked: Sequence[Asked], k: int) -> Evaluation:
    """pass@k and cons@k with their intervals, where there are groups of k."""
    if not asked or k < 2:
        return {}
    right = [[answer.right for answer in one.answers] for one in asked]
    passed = [pass_at_k(len(row), sum(value >= 1.0 for value in row), k) for row in right]
    agreed = [
        cons([a.answer for a in one.answers[:k]], row[:k]) for one, row in zip(asked, right, strict=True)
    ]
    return {
        "vote_n": len(asked),
        f"pass@{k}": _mean(passed),
        f"pass@{k}_interval": list(interval(passed)),
        f"cons@{k}": _mean(agreed),
        f"cons@{k}_interval": list(interval(agreed)),
    }


def comparison(a: str, b: str, task: str, first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """How model b compares with model a by their rates on the same problems: `difference` is b - a, `p_better` the
    probability that b is the better one."""
    found = paired_difference(first, second)
    return {
        "a": a,
        "b": b,
        "task": task,
        "n": len(first),
        "difference": found.mean,
        "interval": list(found.interval),
        "p_better": found.p_better,
    }


def comparisons(problems: Mapping[str, Mapping[str, Sequence[Any]]]) -> list[dict[str, Any]]:
    """Every model with every model after it, on each taskset that both were asked: by pass@1, and under "language" by
    the language's share where it is known. `problems` is {model: {task: [{"problem", "rate", ...}]}}."""
    found = []
    for (a, first), (b, second) in combinations(problems.items(), 2):
        for task in first:
            pairs = _paired(first[task], second.get(task, ()))
            if not pairs:
                continue
            by_rate = comparison(a, b, task, *_columns(pairs, "rate"))
            if all("language" in one for pair in pairs for one in pair):
                spoken = comparison(a, b, task, *_columns(pairs, "language"))
                by_rate["language"] = {key: spoken[key] for key in ("difference", "interval", "p_better")}
            found.append(by_rate)
    return found


def _paired(first: Sequence[Any], second: Sequence[Any]) -> list[tuple[Any, Any]]:
    """The entries of both about the same problem. A problem may be asked several times, where a taskset has few: then
    they pair in the order of asking."""
    known: dict[str, deque[Any]] = {}
    for one in first:
        known.setdefault(_name_of(one), deque()).append(one)
    return [(known[_name_of(one)].popleft(), one) for one in second if known.get(_name_of(one))]


def _name_of(entry: Any) -> str:
    return json.dumps(entry["problem"], sort_keys=True)


def _columns(pairs: Sequence[tuple[Any, Any]], name: str) -> tuple[list[float], list[float]]:
    return [pair[0][name] for pair in pairs], [pair[1][name] for pair in pairs]


def sentence(found: dict[str, Any]) -> str:
    """A comparison in words."""
    p, problems = found["p_better"], f"{found['n']} {'problem' if found['n'] == 1 else 'problems'}"
    for name, sure in ((found["b"], p), (found["a"], 1 - p)):
        if sure >= SURE:
            return f"{name} is better with {_percent(sure)} probability"
    return f"no difference can be told from {problems}"


def _percent(probability: float) -> str:
    return "more than 99%" if probability > 0.995 else f"{100 * probability:.0f}%"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
