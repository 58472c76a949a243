"""What is added to a reward beside the verdict. Plain floats, no torch."""

from __future__ import annotations


def soft_overlong(length: int, max_length: int, buffer: float) -> float:
    """0 up to max_length - buffer tokens, then falling linearly to -1 at max_length (DAPO, arXiv 2503.14476,
    equation 13, with L_max = max_length and L_cache = buffer > 0)."""
    beyond = length - (max_length - buffer)
    return -min(1.0, max(0.0, beyond / buffer))
