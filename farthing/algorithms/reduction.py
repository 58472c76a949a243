"""What one token counts: the single place where losses are normalised. Plain floats, no torch.

A loss is the sum over tokens of weight x token loss. The denominators count every sample of the step, those that are
skipped because they teach nothing included, so that skipping changes time and never the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Reduction = Callable[[Sequence[int], int], list[float]]


def sequence_mean(lengths: Sequence[int], max_length: int) -> list[float]:
    """1 / (N |o_i|): the mean over samples of the mean over tokens (GRPO, arXiv 2402.03300, equation 3)."""
    return [1.0 / (len(lengths) * length) for length in lengths]


def token_mean(lengths: Sequence[int], max_length: int) -> list[float]:
    """1 / sum |o_i|: every token counts the same (DAPO, arXiv 2503.14476, equation 8)."""
    total = sum(lengths)
    return [1.0 / total for _ in lengths]


def constant(lengths: Sequence[int], max_length: int) -> list[float]:
    """1 / (N L) with L the longest completion allowed: no length enters (Dr. GRPO, arXiv 2503.20783, section 3.1)."""
    return [1.0 / (len(lengths) * max_length) for _ in lengths]


REDUCTIONS: dict[str, Reduction] = {"sequence": sequence_mean, "token": token_mean, "constant": constant}
