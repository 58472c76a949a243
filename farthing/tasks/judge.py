"""Scoring by a named verifier or by a user's own function, in process or in workers, always with three
outcomes."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from farthing.config import Strict, unknown
from farthing.errors import TaskError
from farthing.tasks import sandbox
from farthing.tasks.task import Problem, Score
from farthing.tasks.verifiers import VERIFIERS
from farthing.tasks.verifiers import math as math_verifier
from farthing.tasks.verifiers.format import Form, Reading, read
from farthing.tasks.verifiers.verdict import Verdict


class Limits(Strict):
    """Bounds of one check that runs in a worker, and how many workers there are."""

    seconds: float = 5.0
    memory_mb: int = 1024
    workers: int = 2

    def pool(self, target: str) -> sandbox.Pool:
        """The process-wide pool for this function with these limits."""
        return sandbox.shared(target, self.workers, self.seconds, self.memory_mb)


class Judge:
    """Scores completions of problems that carry a gold `answer`.

    `verifier`: a name of `VERIFIERS` or `path/to/file.py:function`. Raises TaskError for an unknown name,
    option or missing file. A user's function is called in a worker as `function(completion, **problem)` and
    returns a number, True or False, None (could not be scored), or {"correct": ..., "parts": {...},
    "answer": ...}.
    """

    def __init__(
        self,
        verifier: str,
        *,
        options: Mapping[str, Any] | None = None,
        form: Form = "tags",
        limits: Limits | None = None,
    ) -> None:
        self.verifier = verifier
        self.options = dict(options or {})
        self.form = form
        self.limits = limits or Limits()
        self.user = ".py:" in verifier
        self._verify = _user_target(verifier) if self.user else _named(verifier, self.options)

    def score_many(self, pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        """Scores in the order of `pairs`; checks that need workers run side by side."""
        if self.user:
            return self._by_user(pairs)
        readings = [read(completion, self.form) for completion, _ in pairs]
        results = [
            self._in_process(r.answer, problem) for r, (_, problem) in zip(readings, pairs, strict=True)
        ]
        verdicts = self._in_workers(results)
        return [Score.of(v, well_formed=r.well_formed) for v, r in zip(verdicts, readings, strict=True)]

    def _in_process(self, answer: str | None, problem: Problem) -> Verdict | math_verifier.Call:
        extra = {"choices": problem["choices"]} if "choices" in problem else {}
        assert not isinstance(self._verify, str)
        result: Verdict | math_verifier.Call = self._verify(
            answer, problem["answer"], **self.options, **extra
        )
        return result

    def _in_workers(self, results: Sequence[Verdict | math_verifier.Call]) -> list[Verdict]:
        """Carry out the calls among `results`; verdicts stay as they are."""
        calls = [i for i, result in enumerate(results) if isinstance(result, math_verifier.Call)]
        verdicts = [r if isinstance(r, Verdict) else Verdict(None) for r in results]
        if calls:
            pool = self.limits.pool(math_verifier.TARGET)
            outcomes = pool.run([results[i]._asdict() for i in calls])
            for i, outcome in zip(calls, outcomes, strict=True):
                verdicts[i] = math_verifier.conclude(outcome)
        return verdicts

    def _by_user(self, pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        assert isinstance(self._verify, str)
        calls = [{**problem, "completion": completion} for completion, problem in pairs]
        outcomes = self.limits.pool(self._verify).run(calls) if calls else []
        readings = [read(completion, self.form) for completion, _ in pairs]
        return [reward_score(o, self.verifier, r) for o, r in zip(outcomes, readings, strict=True)]


def _named(name: str, options: Mapping[str, Any]) -> Callable[..., Verdict | math_verifier.Call]:
    if name not in VERIFIERS:
        hint = unknown(name, VERIFIERS, "verifier")
        raise TaskError(f"{hint}, or a function of your own as file.py:function")
    entry = VERIFIERS[name]
    for option in options:
        if option not in entry.options:
            raise TaskError(f'verifier "{name}": {unknown(option, entry.options, "option")}')
    module, _, attribute = entry.target.partition(":")
    function: Callable[..., Verdict | math_verifier.Call] = getattr(
        importlib.import_module(module), attribute
    )
    return function


def _user_target(verifier: str) -> str:
    path, _, function = verifier.rpartition(":")
    if not Path(path).is_file():
        raise TaskError(f'verifier "{verifier}": no file {path}')
    if not function.isidentifier():
        raise TaskError(f'verifier "{verifier}": {function!r} is no function name; write {path}:my_reward')
    return f"{Path(path).resolve()}:{function}"


def reward_score(outcome: sandbox.Outcome, name: str, reading: Reading) -> Score:
    """What a user's function returned, as a score; anything it may not return is an error, not a zero."""
    form = {"format": float(reading.well_formed)}
    if outcome.error is not None:
        return Score(None, form, reading.answer, outcome.error)
    value = outcome.value
    result = value if isinstance(value, dict) else {"correct": value}
    correct, parts, answer = (
        result.get("correct"),
        result.get("parts", {}),
        result.get("answer", reading.answer),
    )
    if correct is None:
        return Score(None, form, reading.answer, str(result.get("error") or f"{name} returned None"))
    numbers = [correct, *parts.values()] if isinstance(parts, dict) else [None]
    if not all(_is_number(number) for number in numbers) or not isinstance(answer, str | None):
        return Score(None, form, reading.answer, f"{name} returned {str(value)[:80]!r}, not a number")
    rewards = {part: float(number) for part, number in parts.items()}
    return Score(float(correct), {"accuracy": float(correct), **form, **rewards}, answer)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
