"""What every comparison needs: an idle machine, both sides in turn, and the machine's own limits.

Used by the scripts beside it, from a checkout installed with `pip install -e .`. Nothing here measures farthing.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from farthing.cost.hardware import available_cores, has_bf16, processor_name
from farthing.models.packed import packed

BUSY = 0.15
"""Cores of other people's work beyond which a measurement is not worth having."""


def require_idle(force: bool = False) -> None:
    """End the program if others use the machine; two OpenMP programs on the same cores slow each other tenfold."""
    others = busy_cores()
    if others > BUSY and not force:
        sys.exit(f"bench: {others:.1f} cores are busy with other work; wait, or measure anyway with --force")


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores were at work while this process slept; 0.0 where the system does not tell."""
    before, began = _busy_jiffies(), time.perf_counter()
    if before is None:
        return 0.0
    time.sleep(seconds)
    after = _busy_jiffies()
    assert after is not None
    return (after - before) / 100 / (time.perf_counter() - began)


def _busy_jiffies() -> int | None:
    """Hundredths of a second spent in user and system mode by everybody, since the machine started."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system = (int(word) for word in words[1:4])
    return user + nice + system


def machine(threads: int, *packages: str) -> dict[str, Any]:
    """What a number means nothing without: processor, cores, threads, allocator, versions, date."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", *packages)}
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor_name(),
        "cores": available_cores(),
        "bf16": has_bf16(),
        "threads": threads,
        "allocator": allocator(),
        "python": platform.python_version(),
        **versions,
    }


def allocator() -> str:
    """Which library gives this process its memory: worth up to a quarter of the time, so the same on both sides."""
    maps = Path("/proc/self/maps")
    loaded = maps.read_text() if maps.exists() else ""
    return next((name for name in ("tcmalloc", "jemalloc", "mimalloc") if name in loaded), "the system's")


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def best_seconds(action: Callable[[], object], repeats: int = 7, warm: int = 2) -> float:
    """The shortest time of `repeats` calls after `warm` that do not count: for the machine's own limits."""
    return min([seconds(action) for _ in range(warm + repeats)][warm:])


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each side measured in each round, the sides taking turns, after one round that does not count.

    What slows the machine for a minute slows both; the order turns round so that none is always the first.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for measured in range(rounds + 1):
        for name in list(sides) if measured % 2 else list(sides)[::-1]:
            value = sides[name]()
            if measured:
                found[name].append(value)
    return found


def medians(found: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in found.items()}


def gemm_flops(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    """The best FLOP/s of x [rows, inputs] times a weight [outputs, inputs]: as PyTorch's linear layer computes it or
    with the weight packed, whichever is faster."""
    return max(linear_flops(rows, inputs, outputs, dtype), packed_flops(rows, inputs, outputs, dtype))


def linear_flops(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    """The same of PyTorch's linear layer alone."""
    x, weight = operands(rows, inputs, outputs, dtype)
    return _flops(lambda: torch.nn.functional.linear(x, weight), 2 * rows * inputs * outputs)


def packed_flops(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    """The same with a packed weight; 0.0 where there is no packing."""
    x, weight = operands(rows, inputs, outputs, dtype)
    made = packed(weight)
    return 0.0 if made is None else _flops(lambda: made(x, None), 2 * rows * inputs * outputs)


def operands(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inputs, generator=generator).to(dtype)
    return x, torch.randn(outputs, inputs, generator=generator).to(dtype)


def _flops(product: Callable[[], object], flops: int) -> float:
    # Long enough for the clock, short enough for a sweep of shapes.
    calls = max(1, min(200, int(1e9 / flops)))
    with torch.no_grad():
        return calls * flops / best_seconds(lambda: [product() for _ in range(calls)])


def bandwidth(num_bytes: int = 256 << 20) -> float:
    """The best bytes per second of reading memory that no cache holds."""
    store = torch.ones(num_bytes // 4)
    return num_bytes / best_seconds(store.sum)
