"""What n samples of m problems say about a model. Plain Python and numpy, no torch.

`correct` is a table with one row per problem: the correctness of each of its samples, between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

Table = Sequence[Sequence[float]]
RESAMPLES = 4000


def pass_at_1(correct: Table) -> float:
    """Mean over problems of the mean over samples (avg@n)."""
    return float(np.mean([np.mean(row) for row in correct]))


def interval(values: Sequence[float], seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of one value per problem: problems are resampled, because samples of
    one problem are not independent (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3)."""
    data = np.asarray(values, dtype=np.float64)
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        means[index] = data[generator.integers(0, len(data), len(data))].mean()
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Unbiased estimate, from n samples of which c are right, of the chance that one of k is:
    1 - C(n-c, k) / C(n, k) (Codex, arXiv 2107.03374, equation 1)."""
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {num_samples}")
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def cons(answers: Sequence[str | None], correct: Sequence[float]) -> float:
    """Correctness of the most frequent answer; ties share, answers that could not be parsed have no vote.

    Equal strings are equal answers; an answer's correctness is the mean over the samples that gave it.
    """
    votes: dict[str, list[float]] = {}
    for answer, value in zip(answers, correct, strict=True):
        if answer is not None:
            votes.setdefault(answer, []).append(value)
    if not votes:
        return 0.0
    most = max(len(given) for given in votes.values())
    tied = [sum(given) / len(given) for given in votes.values() if len(given) == most]
    return sum(tied) / len(tied)
