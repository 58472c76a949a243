"""The signs that a run of reinforcement learning has gone wrong, read off its metrics. Torch-free: guards act on them
during the run, the report shows them afterwards, in the same words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from farthing.stages.config.guards import GuardConfig

ROLLBACKS = "rollbacks.jsonl"
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class View:
    """Means of a metric over the first and the last `window` steps that have it; None until there are that many."""

    records: Sequence[dict[str, Any]]
    window: int

    def last(self, key: str) -> float | None:
        return self._mean(self._values(key)[-self.window :])

    def first(self, key: str) -> float | None:
        values = self._values(key)
        return self._mean(values[: self.window]) if len(values) >= 2 * self.window else None

    def rise(self, key: str) -> float | None:
        """How much the last mean is above the first; None where the two would overlap."""
        first, last = self.first(key), self.last(key)
        return None if first is None or last is None else last - first

    def _values(self, key: str) -> list[float]:
        return [record[key] for record in self.records if isinstance(record.get(key), int | float)]

    def _mean(self, values: Sequence[float]) -> float | None:
        return fmean(values) if len(values) == self.window else None


def entropy_collapse(view: View, limits: GuardConfig) -> str | None:
    entropy, right = view.last("entropy"), view.last("pass_rate")
    if not limits.entropy_floor or entropy is None or entropy >= limits.entropy_floor:
        return None
    if right is not None and right >= NEARLY_ALL:
        return None  # nothing left to explore
    return (
        f"entropy has collapsed to {entropy:.3f} nats per token: the samples of a group are nearly the same; lower "
        "lr or raise clip_high"
    )


def entropy_blow_up(view: View, limits: GuardConfig) -> str | None:
    rise = view.rise("entropy")
    if not limits.entropy_rise or rise is None or rise <= limits.entropy_rise:
        return None
    return (
        f"entropy has risen by {rise:.2f} nats per token: the samples turn to noise; lower lr or set kl_coef"
    )


def mismatch(view: View, limits: GuardConfig) -> str | None:
    apart = view.last("mismatch/kl")
    if not limits.mismatch_kl or apart is None or apart <= limits.mismatch_kl:
        return None
    return (
        f"sampler and learner disagree: KL {apart:.3g} nats per token where it should be under "
        f'{limits.mismatch_kl:g}; lower lr or updates_per_rollout, or set dtype = "float32"'
    )


def repetition(view: View, limits: GuardConfig) -> str | None:
    """A reward that rises (or holds) while samples repeat themselves is being gamed."""
    rise, reward = view.rise("completions/repetition"), view.rise("reward")
    if not limits.repetition_rise or rise is None or reward is None or rise <= limits.repetition_rise:
        return None
    if reward < 0:
        return None
    share = view.last("completions/repetition")
    return (
        f"the reward holds while samples turn to repetition: {share:.0%} of their 4-grams are repeated, "
        f"{rise:.0%} more than at first; look at the samples, then at what the verifier accepts"
    )


# Each looks at the metrics so far and says in one sentence what has gone wrong and what mends it.
SIGNS: tuple[Callable[[View, GuardConfig], str | None], ...] = (
    entropy_collapse,
    entropy_blow_up,
    mismatch,
    repetition,
)
