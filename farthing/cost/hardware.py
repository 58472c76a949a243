"""What this machine is and how fast it multiplies: processor, cores, memory, bf16, GEMM peak, bandwidth.

Cores and memory are what this process may use (affinity, cgroup quotas), not what the machine has. The speeds
are measured through functions that are passed in, so that nothing here imports torch; they are cached in a file,
because a peak that is measured on a busy machine once should not change from run to run.
"""

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from farthing.errors import RunError
from farthing.runs.files import read_json, write_json

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""x86's dot products and AMX tiles, and ARM's; without one of them bf16 is emulated and slower than float32."""

WATTS_PER_CORE: tuple[tuple[str, float, str], ...] = (
    ("EPYC", 4.4, "280 W for the 64 cores of an EPYC 7763"),
    ("Xeon", 6.3, "350 W for the 56 cores of a Xeon Platinum 8480+"),
    ("Ryzen", 10.6, "170 W for the 16 cores of a Ryzen 9 7950X"),
    ("Core(TM)", 5.2, "125 W for the 24 cores of a Core i9-13900K"),
)
"""Words in a processor's name, watts of one busy core, and whose thermal design power that is. One model stands for a
family whose members differ by a factor of two either way; a recipe's `cost.watts_per_core` knows better."""
ASSUMED_WATTS = 10.0


def watts_per_core(processor: str) -> tuple[float, str]:
    """Watts of a busy core, for an estimate, and where the figure comes from."""
    for word, watts, source in WATTS_PER_CORE:
        if word in processor:
            return watts, source
    return ASSUMED_WATTS, "an assumption, the processor is in no table"


@dataclass(frozen=True)
class Hardware:
    """One machine as this process sees it. FLOP/s and bytes/s are 0.0 where they were not measured."""

    processor: str
    cores: float
    """Cores of processor time this process can use; a quota may make it a fraction."""
    memory_bytes: int
    bf16: bool
    """Whether the processor multiplies bf16 in hardware."""
    gemm_flops: float = 0.0
    """The best float32 matrix product measured, FLOP/s."""
    gemm_flops_bf16: float = 0.0
    bandwidth: float = 0.0
    """Bytes per second of a copy, read and written bytes together."""


class Matmul(Protocol):
    """Multiplies two n x n matrices of the type once and waits for the result."""

    def __call__(self, n: int, dtype: str) -> None: ...


Copy: TypeAlias = Callable[[int], None]
"""Copies so many bytes once and waits for the result."""


def probe(
    cache_path: str | Path | None = None, matmul: Matmul | None = None, copy: Copy | None = None
) -> Hardware:
    """This machine, measured with `matmul` and `copy` where they are given.

    With `cache_path`, speeds measured before on the same processor, cores and memory are taken from that file, and
    new ones are written to it.
    """
    seen = Hardware(processor_name(), available_cores(), memory_bytes(), has_bf16())
    known = _cached(Path(cache_path), seen) if cache_path else None
    if known is not None and (known.gemm_flops or matmul is None) and (known.bandwidth or copy is None):
        return known
    measured = known or seen
    if matmul is not None and not measured.gemm_flops:
        bf16 = measure_gemm(matmul, "bfloat16") if seen.bf16 else 0.0
        measured = replace(measured, gemm_flops=measure_gemm(matmul, "float32"), gemm_flops_bf16=bf16)
    if copy is not None and not measured.bandwidth:
        measured = replace(measured, bandwidth=measure_bandwidth(copy))
    if cache_path:
        Path(cache_path).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(cache_path), asdict(measured))
    return measured


def _cached(path: Path, seen: Hardware) -> Hardware | None:
    """What the file says, if it is about this machine; a damaged file is measured anew."""
    if not path.exists():
        return None
    try:
        data = read_json(path)
    except RunError:
        return None
    if not isinstance(data, dict) or set(data) != {item.name for item in fields(Hardware)}:
        return None
    known = Hardware(**data)
    return known if replace(known, gemm_flops=0.0, gemm_flops_bf16=0.0, bandwidth=0.0) == seen else None


def measure_gemm(
    matmul: Matmul,
    dtype: str,
    *,
    n: int = 1024,
    repeats: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The best FLOP/s of `repeats` products of two n x n matrices, after two that warm up.

    The best and not the mean: a peak is what the machine can do when nothing else happens.
    """
    return 2.0 * n**3 / _best(lambda: matmul(n, dtype), repeats, clock)


def measure_bandwidth(
    copy: Copy,
    *,
    size: int = 256 << 20,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The best bytes per second of a copy of `size` bytes, each byte read once and written once."""
    return 2.0 * size / _best(lambda: copy(size), repeats, clock)


def _best(action: Callable[[], None], repeats: int, clock: Callable[[], float]) -> float:
    best = math.inf
    for index in range(repeats + 2):
        start = clock()
        action()
        elapsed = clock() - start
        if index >= 2:
            best = min(best, elapsed)
    return max(best, 1e-9)


def processor_name(proc: Path = PROC) -> str:
    """The processor's marketing name, or as much as the system tells."""
    values = _cpuinfo(proc)
    for key in ("model name", "Hardware", "cpu model", "Processor"):
        if values.get(key):
            return " ".join(values[key].split())
    return platform.processor() or platform.machine() or "unknown"


def has_bf16(proc: Path = PROC) -> bool:
    """Whether the processor lists an instruction for products of bf16 numbers."""
    values = _cpuinfo(proc)
    flags = set(values.get("flags", "").split()) | set(values.get("Features", "").split())
    return bool(flags & BF16_FLAGS)


def _cpuinfo(proc: Path) -> dict[str, str]:
    """The keys of the first processor."""
    values: dict[str, str] = {}
    for line in _text(proc / "cpuinfo").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip(), value.strip())
    return values


def available_cores(cgroup: Path = CGROUP, proc: Path = PROC) -> float:
    """Cores this process can keep busy: its affinity, cut by the quota of any of its cgroups."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(allowed), *(_quota(folder) for folder in _cgroup_folders(cgroup, proc, "cpu"))])


def _quota(folder: Path) -> float:
    """Cores that one cgroup grants; infinity where it sets no limit."""
    words = _text(folder / "cpu.max").split()  # version 2: "200000 100000" or "max 100000"
    if len(words) != 2:
        words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]  # version 1
    try:
        quota, period = float(words[0]), float(words[1])
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def memory_bytes(cgroup: Path = CGROUP, proc: Path = PROC) -> int:
    """Bytes of memory this process may use: the machine's, cut by the limit of any of its cgroups."""
    limits = [
        int(text)
        for folder in _cgroup_folders(cgroup, proc, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _text(folder / name).strip()).isdigit()
    ]
    return min([_machine_memory(proc), *limits])


def _machine_memory(proc: Path) -> int:
    for line in _text(proc / "meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_folders(cgroup: Path, proc: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup and of all above it; limits of each of them hold."""
    folders = {cgroup, cgroup / controller}
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroup / controller if controllers else cgroup
        parts = [part for part in path.split("/") if part]
        folders |= {root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)}
    return sorted(folders)


def _text(path: Path) -> str:
    """The text of a system file; empty where this system does not have it."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
