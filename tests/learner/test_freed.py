"""What is freed leaves the process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from farthing.learner.freed import _trim, give_back


def resident() -> int:
    """MiB of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10


@pytest.mark.skipif(_trim() is None, reason="not glibc's allocator: there is no malloc_trim")
def test_what_is_held_in_pieces_is_given_back() -> None:
    """Small tensors with one behind them that stays: the allocator alone can give back nothing in front of it."""
    held = [torch.zeros(16384) for _ in range(2000)]
    last = torch.zeros(16384)
    before = resident()
    held.clear()
    give_back()
    assert resident() < before - 60
    assert last.sum() == 0
