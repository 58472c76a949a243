"""Sampler = learner: before anything is learnt, the engine's log-probabilities are recomputed by the learner.

A policy gradient takes the sampler's distribution for the learner's. Where the two disagree (other weights, another
temperature, a shifted token) training goes on and slowly goes wrong, so the stage refuses to begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

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


def check_agreement(
    learner: LocalLearner, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]
) -> float:
    """The mean difference per token, nats; raises NumericsError where sampler and learner are not the same model."""
    samples = [
        Sample(
            [*prompt.token_ids, *one.token_ids],
            len(prompt.token_ids),
            1.0,
            rollout_logprobs=one.sampling_logprobs,
        )
        for prompt, own in zip(prompts, completions, strict=True)
        for one in own
    ]
    rows = [
        [abs(a - b) for a, b in zip(own, sample.rollout_logprobs, strict=True)]
        for own, sample in zip(learner.logprobs(samples), samples, strict=True)
    ]
    gaps, first = list(chain.from_iterable(rows)), sum(row[0] for row in rows) / len(rows)
    worst, mean = max(gaps), sum(gaps) / len(gaps)
    is_float32 = learner.compute_dtype is None
    if (is_float32 and worst > FLOAT32_BOUND) or mean > BFLOAT16_MEAN_BOUND:
        at_once = first > (FLOAT32_BOUND if is_float32 else BFLOAT16_MEAN_BOUND)
        where = "from the first token on" if at_once else "after the first token"
        raise NumericsError(
            f"sampler and learner disagree {where}: {mean:.4f} nats per token on average, {worst:.4f} at worst, over "
            f"{len(gaps)} tokens; from the first token on points at weights or temperature, later at positions or cache"
        )
    return mean
