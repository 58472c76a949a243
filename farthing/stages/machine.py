"""What a run fixes about the machine before the first tensor: threads, and the speed it is measured against."""

from __future__ import annotations

import torch


def fix_threads(threads: int) -> None:
    """Threads are fixed for a whole run: sums are split by thread, so another number is another result."""
    torch.set_num_threads(threads)


def matmul(n: int, dtype: str) -> None:
    """One n x n product, for measuring the machine's peak."""
    kind = getattr(torch, dtype)
    torch.mm(torch.ones(n, n, dtype=kind), torch.ones(n, n, dtype=kind))
