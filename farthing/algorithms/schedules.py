"""Learning rates as functions of the step. No torch, no clock."""

from __future__ import annotations

import math


def trapezoid(step: int, steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Share of the peak rate at `step` (0-based): linear warm-up, plateau, linear fall to zero over the last
    `decay_fraction` of the steps (warmup-stable-decay, arXiv 2404.06395, section 4)."""
    rising = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    decay_steps = decay_fraction * steps
    falling = min(1.0, (steps - step) / decay_steps) if decay_steps else 1.0
    return min(rising, falling)


def warmup(step: int, warmup_steps: int) -> float:
    """Linear rise, then constant: depends on no total, so a run can be extended."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def cosine(step: int, steps: int, warmup_steps: int, final_fraction: float) -> float:
    """Share of the peak rate at `step` (0-based): linear warm-up, then half a cosine from 1 down to `final_fraction`,
    which it reaches at the end of `steps` (SGDR, arXiv 1608.03983, equation 5, without restarts)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + math.cos(math.pi * done))
