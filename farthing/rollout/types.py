"""What comes out of sampling: a rollout is one completion with its verdict, a group is all rollouts of one prompt."""

from __future__ import annotations

from dataclasses import dataclass

from farthing.engine.api import Completion
from farthing.tasks.task import Problem, Score


@dataclass(frozen=True)
class Prompt:
    """A problem put into tokens. `prefill`: what the template already wrote of the assistant's turn."""

    problem: Problem
    token_ids: tuple[int, ...]
    text: str
    prefill: str


@dataclass(frozen=True)
class Rollout:
    """`text` is the assistant's whole turn without its end token; `reward` None means it could not be scored."""

    completion: Completion
    text: str
    score: Score
    reward: float | None

    @property
    def num_tokens(self) -> int:
        return len(self.completion.token_ids)

    @property
    def is_truncated(self) -> bool:
        """Stopped by the length limit, or for want of room before it; not by the model."""
        return self.completion.finish_reason == "length"

    @property
    def is_broken(self) -> bool:
        """Stopped behind its answer, because it could be well-formed no more."""
        return self.completion.finish_reason == "broken"


@dataclass(frozen=True)
class Group:
    """All samples of one prompt."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]

    @property
    def rewards(self) -> list[float | None]:
        return [rollout.reward for rollout in self.rollouts]
