"""The machine as this process sees it, from made-up /proc and cgroup folders."""

import json
import os
from pathlib import Path

import pytest

from farthing.cost import hardware
from farthing.cost.hardware import Hardware, available_cores, has_bf16, memory_bytes, probe, processor_name

GIB = 1 << 30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)


@pytest.mark.parametrize(
    ("cpuinfo", "name", "bf16"),
    [
        ("model name\t: AMD  EPYC 9354\nflags\t: avx2 avx512_bf16\n", "AMD EPYC 9354", True),
        ("model name\t: Xeon\nflags\t: amx_bf16\n\nmodel name\t: second\n", "Xeon", True),
        ("model name\t: Core i5\nflags\t: avx2 f16c\n", "Core i5", False),
        ("Features\t: asimd bf16\nHardware\t: Graviton\n", "Graviton", True),
    ],
)
def test_processor_and_bf16_come_from_cpuinfo(tmp_path: Path, cpuinfo: str, name: str, bf16: bool) -> None:
    tree(tmp_path, {"cpuinfo": cpuinfo})
    assert processor_name(tmp_path) == name
    assert has_bf16(tmp_path) is bf16


def test_a_system_without_proc_still_has_a_name_and_memory(tmp_path: Path) -> None:
    assert processor_name(tmp_path)
    assert not has_bf16(tmp_path)
    assert memory_bytes(tmp_path, tmp_path) > 0
    assert available_cores(tmp_path, tmp_path) >= 1


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4.0),
        ({"cg/cpu.max": "max 100000\n"}, 4.0),
        ({"cg/cpu.max": "150000 100000\n"}, 1.5),
        ({"cg/cpu.max": "rubbish"}, 4.0),
        ({"cg/cpu.max": "900000 100000\n"}, 4.0),
        ({"cg/a/cpu.max": "200000 100000\n", "proc/self/cgroup": "0::/a/b\n"}, 2.0),
        ({"cg/x/cpu.max": "200000 100000\n", "proc/self/cgroup": "0::/a/b\n"}, 4.0),
        ({"cg/cpu/cpu.cfs_quota_us": "50000\n", "cg/cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cg/cpu/cpu.cfs_quota_us": "-1\n", "cg/cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        (
            {
                "cg/cpu/j/cpu.cfs_quota_us": "300000",
                "cg/cpu/j/cpu.cfs_period_us": "100000",
                "proc/self/cgroup": "4:cpu,cpuacct:/j\n",
            },
            3.0,
        ),
    ],
)
def test_cores_are_cut_by_every_quota_above_the_process(
    tmp_path: Path, files: dict[str, str], cores: float
) -> None:
    tree(tmp_path, files)
    assert available_cores(tmp_path / "cg", tmp_path / "proc") == cores


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * GIB),
        ({"cg/memory.max": "max\n"}, 8 * GIB),
        ({"cg/memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ({"cg/a/memory.max": f"{3 * GIB}\n", "proc/self/cgroup": "0::/a\n"}, 3 * GIB),
        ({"cg/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"}, 8 * GIB),
        ({"cg/memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
    ],
)
def test_memory_is_cut_by_every_limit(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    tree(tmp_path, {"proc/meminfo": f"MemTotal:  {8 * GIB // 1024} kB\nMemFree: 1 kB\n", **files})
    assert memory_bytes(tmp_path / "cg", tmp_path / "proc") == expected


class Bench:
    """A matmul and a copy that take as long as the list says, on their own clock."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds, self.now, self.calls = list(seconds), 0.0, 0

    def clock(self) -> float:
        return self.now

    def matmul(self, n: int, dtype: str) -> None:
        self.now += self.seconds[self.calls % len(self.seconds)]
        self.calls += 1

    def copy(self, size: int) -> None:
        self.matmul(size, "bytes")


def test_the_peak_is_the_best_after_warming_up() -> None:
    bench = Bench([0.01, 0.01, 4.0, 2.0, 3.0])
    assert hardware.measure_gemm(bench.matmul, "float32", n=100, repeats=3, clock=bench.clock) == 2e6 / 2.0
    bench = Bench([0.01, 0.01, 4.0, 2.0, 3.0])
    assert hardware.measure_bandwidth(bench.copy, size=1000, repeats=3, clock=bench.clock) == 2000 / 2.0


def test_speeds_are_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "deep" / "hardware.json"
    bench = Bench([0.0])
    monkeypatch.setattr(hardware, "has_bf16", lambda: True)
    first = probe(cache, bench.matmul, bench.copy)
    calls = bench.calls
    assert calls == 9 + 9 + 5
    assert first.gemm_flops > 0
    assert first.gemm_flops_bf16 > 0
    assert first.bandwidth > 0
    assert probe(cache, bench.matmul, bench.copy) == first
    assert probe(cache) == first
    assert bench.calls == calls

    other = {**json.loads(cache.read_text()), "processor": "another one"}
    for content in (json.dumps(other), "{", "[]", '{"a": 1}'):
        cache.write_text(content)
        assert probe(cache, bench.matmul).gemm_flops > 0
        assert bench.calls == calls + 18
        calls += 18


def test_without_measures_the_speeds_are_zero_and_bf16_is_not_asked_for_where_it_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "has_bf16", lambda: False)
    seen = probe()
    assert (seen.gemm_flops, seen.gemm_flops_bf16, seen.bandwidth) == (0.0, 0.0, 0.0)
    assert probe(matmul=Bench([0.0]).matmul).gemm_flops_bf16 == 0.0
    assert isinstance(seen, Hardware)
