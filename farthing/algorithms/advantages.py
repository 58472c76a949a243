"""Group-relative advantages: how much better a sample was than the others of its prompt. Plain floats, no torch.

A group is the list of rewards of one prompt's samples; None stands for "could not be scored": it takes no part in the
statistics and gets advantage 0. In a dead group every advantage is exactly 0, so that leaving it out changes nothing;
the mean of equal rewards may be off in its last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Rewards = Sequence[float | None]


def zscore(rewards: Rewards, epsilon: float = 1e-4) -> list[float]:
    """(r - mean) / (std + epsilon), Bessel-corrected std: GRPO (DeepSeekMath, arXiv 2402.03300, section 4.1.2)."""
    if is_dead(rewards):
        return [0.0] * len(rewards)
    scored = _scored(rewards)
    mean = math.fsum(scored) / len(scored)
    variance = math.fsum((reward - mean) ** 2 for reward in scored) / (len(scored) - 1)
    return [0.0 if r is None else (r - mean) / (math.sqrt(variance) + epsilon) for r in rewards]


def mean_only(rewards: Rewards) -> list[float]:
    """r - mean: Dr. GRPO leaves the division by the standard deviation out (arXiv 2503.20783, section 3.1)."""
    if is_dead(rewards):
        return [0.0] * len(rewards)
    scored = _scored(rewards)
    mean = math.fsum(scored) / len(scored)
    return [0.0 if r is None else r - mean for r in rewards]


def leave_one_out(rewards: Rewards) -> list[float]:
    """r - mean of the others = n/(n-1) (r - mean): RLOO (arXiv 2402.14740, equation 7)."""
    if is_dead(rewards):
        return [0.0] * len(rewards)
    scored = _scored(rewards)
    scale = len(scored) / (len(scored) - 1)
    return [advantage * scale for advantage in mean_only(rewards)]


def _scored(rewards: Rewards) -> list[float]:
    return [reward for reward in rewards if reward is not None]


def is_dead(rewards: Rewards) -> bool:
    """Whether a group teaches nothing: every scored sample got the same reward, or fewer than two could be scored."""
    return len(set(_scored(rewards))) < 2


ADVANTAGES: dict[str, Callable[[Rewards], list[float]]] = {
    "zscore": zscore,
    "mean": mean_only,
    "leave_one_out": leave_one_out,
}
