"""What a run fixes about the machine before the first tensor: threads, and the speed it is measured against."""

from __future__ import annotations

from functools import cache

import torch

from farthing.cost.hardware import Hardware


def fix_threads(threads: int) -> None:
    """Threads are fixed for a whole run: sums are split by thread, so another number is another result."""
    torch.set_num_threads(threads)


def compute_dtype(dtype: str, hardware: Hardware) -> torch.dtype | None:
    """The dtype of the compute view: bfloat16, or None for the masters' own float32. "auto" takes bfloat16 where the
    processor multiplies it in hardware."""
    wanted = dtype == "bfloat16" or (dtype == "auto" and hardware.bf16)
    return torch.bfloat16 if wanted else None


def matmul(n: int, dtype: str) -> None:
    """One n x n product, for measuring the machine's peak."""
    torch.mm(*_operands(n, dtype))


@cache
def _operands(n: int, dtype: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, n, generator=generator).to(getattr(torch, dtype)) for _ in range(2))
