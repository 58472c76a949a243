"""What n samples of m problems say about a model. Plain Python and numpy, no torch.

A problem's value is between 0 and 1: the share of its samples that are right, so that the mean of values is pass@1 as
avg@n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

RESAMPLES = 4000
BLOCK = 250  # draws made at once: memory stays small with many problems


def posterior(values: Sequence[float], worst: float = 0.0, best: float = 1.0, seed: int = 0) -> np.ndarray:
    """Draws of the mean that lies behind one value per problem, float64 of RESAMPLES.

    A Bayesian bootstrap over problems, because samples of one problem are not independent (Rubin, Annals of Statistics
    9(1), 1981: Dirichlet weights), with half a problem at `worst` and half at `best` added. With one sample for each
    problem this is Beta(right + 1/2, wrong + 1/2), the Beta-Binomial posterior under Jeffreys' prior; so it holds below
    a few hundred problems, where the normal approximation and the plain bootstrap are too sure of themselves
    (arXiv 2503.01747), and where every answer is right it does not claim that every answer will be.
    """
    points = np.asarray([*values, worst, best], dtype=np.float64)
    shapes = np.asarray([1.0] * len(values) + [0.5, 0.5])
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, BLOCK):
        weights = generator.standard_gamma(shapes, (min(BLOCK, RESAMPLES - start), len(points)))
        means[start : start + BLOCK] = weights @ points / weights.sum(axis=1)
    return means


def interval(values: Sequence[float], seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Where the mean of a rate lies with probability `level`, from its value for each problem; holds their mean."""
    return _edges(posterior(values, seed=seed), float(np.mean(values)), level)


@dataclass(frozen=True)
class Difference:
    """What one model is better by: the mean over problems, its 95% interval, the probability that it is positive."""

    mean: float
    interval: tuple[float, float]
    p_better: float


def paired_difference(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Difference:
    """How much better b is than a, both given by their rates on the same problems: what differs between problems
    cancels. Raises ValueError where there is nothing to pair."""
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} problems cannot be paired")
    gains = [after - before for before, after in zip(a, b, strict=True)]
    draws, mean = posterior(gains, worst=-1.0, best=1.0, seed=seed), float(np.mean(gains))
    better = float(np.mean(draws > 0)) if any(gains) else 0.5
    return Difference(mean, _edges(draws, mean, 0.95), better)


def _edges(draws: np.ndarray, mean: float, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return min(float(low), mean), max(float(high), mean)


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
