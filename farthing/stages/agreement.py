"""Sampler = learner: before anything is learnt, the engine's log-probabilities are recomputed by the learner.

A policy gradient takes the sampler's distribution for the learner's. Where the two disagree (other weights, another
temperature, a shifted token) training goes on and slowly goes wrong, so the stage refuses to begin and says where to
look: what part of the sampler made the tokens that disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farthing.data.sample import Sample
from farthing.engine.api import Completion
from farthing.errors import NumericsError
from farthing.learner.local import LocalLearner
from farthing.rollout.types import Prompt

# Largest difference of one token, nats. float32 rounds at 1e-7 per operation; bfloat16 keeps 8 bits, and its two
# paths (one token at a time, whole rows) differ by a few hundredths, rarely by a few tenths, where a token is unlikely.
FLOAT32_BOUND = 1e-4
# bfloat16 is held to the mean instead: any real fault is there on most tokens.
BFLOAT16_MEAN_BOUND = 0.02


@dataclass(frozen=True)
class Gaps:
    """|learner - sampler| of every token of every completion, nats."""

    rows: list[list[float]]
    bound: float
    by_mean: bool

    def exceed(self, values: Sequence[float]) -> bool:
        """Whether these tokens disagree: on average in bfloat16, by their worst in float32."""
        if not values:
            return False
        return (sum(values) / len(values) if self.by_mean else max(values)) > self.bound

    @property
    def all(self) -> list[float]:
        return [gap for row in self.rows for gap in row]


def check_agreement(
    learner: LocalLearner, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]
) -> float:
    """The mean difference per token, nats; raises NumericsError where sampler and learner are not the same model."""
    pairs = [(prompt, one) for prompt, own in zip(prompts, completions, strict=True) for one in own]
    samples = [Sample([*p.token_ids, *one.token_ids], len(p.token_ids), 1.0) for p, one in pairs]
    gaps = measure(learner, samples, [one.sampling_logprobs for _, one in pairs])
    every = gaps.all
    mean = sum(every) / len(every)
    if gaps.exceed(every):
        part = diagnosis(learner, samples, [one for _, one in pairs], gaps)
        raise NumericsError(
            f"sampler and learner disagree {part}; {mean:.4f} nats per token on average, {max(every):.4f} at worst, "
            f"over {len(every)} tokens"
        )
    return mean


def measure(learner: LocalLearner, samples: Sequence[Sample], sampled: Sequence[Sequence[float]]) -> Gaps:
    """The learner's log-probabilities against these."""
    rows = [
        [abs(a - b) for a, b in zip(own, theirs, strict=True)]
        for own, theirs in zip(learner.logprobs(samples), sampled, strict=True)
    ]
    if learner.compute_dtype is None:
        return Gaps(rows, FLOAT32_BOUND, by_mean=False)
    return Gaps(rows, BFLOAT16_MEAN_BOUND, by_mean=True)


def diagnosis(
    learner: LocalLearner, samples: Sequence[Sample], completions: Sequence[Completion], gaps: Gaps
) -> str:
    """Which tokens disagree and what that points at, the surest sign first."""
    temperature = learner.temperature
    learner.temperature = 1.0
    raw = measure(learner, samples, [one.logprobs for one in completions])
    learner.temperature = temperature
    if not raw.exceed(raw.all):
        return (
            "in what was drawn from, not in the model: raw log-probabilities agree on every token; look at the "
            f"sampler's temperature (the learner's is {temperature:g}), its filters, and the order of what it notes"
        )
    if gaps.exceed([row[0] for row in gaps.rows]):
        return "from the first token on: look at the weights and at how the sampler computes prompts"
    if gaps.exceed([gap for row in gaps.rows for gap in row[1:-1]]):
        return "after the first token: look at the sampler's positions, its cache of keys and values, and its decoding"
    return "about the last token only: look at how a turn ends"
