"""What the doctor's checks look at, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from farthing.models.config import ModelConfig
from farthing.rollout.types import Group, Rollout
from farthing.stages.config.grpo import GrpoConfig
from farthing.tasks.task import Problem, Taskset
from farthing.text.tokenizer import Tokenizer

Verdict = Literal["ok", "warn", "refuse", "later"]

ENOUGH = 64
"""Samples from which on "none of them" is no accident: 3 of 64, 4.7%, is then the upper end of the 95% interval."""


@dataclass(frozen=True)
class Evidence:
    """What the checks look at; what is empty or None is not known yet.

    `groups`: one batch, sampled and judged. `seconds`: what parts of a step took ("generate", "score", "learn").
    `generation`: the model's generation_config.json. `gap`: how far sampler and learner are apart, nats per token, or
    what is wrong between them.
    """

    config: GrpoConfig
    taskset: Taskset
    problems: Sequence[Problem]
    memory_bytes: int
    shape: ModelConfig | None = None
    tokenizer: Tokenizer | None = None
    groups: Sequence[Group] = ()
    generation: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    gap: float | str | None = None

    @property
    def rollouts(self) -> list[Rollout]:
        return [rollout for group in self.groups for rollout in group.rollouts]

    @property
    def golds(self) -> list[str]:
        """The taskset's own answers to `problems`, whole completions."""
        return [self.taskset.gold(**problem) for problem in self.problems]

    def share(self, test: Callable[[Rollout], bool]) -> float:
        return fmean(test(rollout) for rollout in self.rollouts)

    def severe(self) -> Verdict:
        """What is wrong with every sample is a reason to refuse, if there are enough of them."""
        return "refuse" if len(self.rollouts) >= ENOUGH else "warn"


@dataclass(frozen=True)
class Finding:
    """What a check measured, and where something is amiss, what and what to do."""

    measured: str
    verdict: Verdict = "ok"
    sentence: str = ""
    remedy: str = ""
    check: str = ""


def tail(text: str, most: int = 60) -> str:
    """The end of a text on one line, quoted."""
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= most else f"...{flat[-most:]}")
