"""What holds for every test."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A slow machine is no failure, and a run of the suite finds what the last one found.
settings.register_profile("farthing", deadline=None, derandomize=True)
settings.load_profile("farthing")

ROOT = Path(__file__).resolve().parents[1]
# What starts processes takes longest.
PROCESSES = {"on_one_core", "start_server", "server", "visit"}


def pytest_collection() -> None:
    """Nothing is garbage yet, and the garbage collector would look for some again and again."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest begin first, so that in the end no worker waits long for another."""
    long = {item.path for item in items if PROCESSES.intersection(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """What was imported stays: it is not looked through again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """What a run or the doctor fixes for its process holds for no other file: with two threads in each of two workers
    on two cores everything takes several times as long."""
    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else int(os.environ.get("OMP_NUM_THREADS") or 0)
    yield
    torch = sys.modules.get("torch")
    if torch and before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def on_one_core() -> Callable[..., str]:
    """A Python process of its own on one core, because a run fixes the number of threads of its process: called with
    the words of its command line, gives the last line it prints. Every worker of pytest-xdist has a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    core = {cores[worker % len(cores)]}

    def carried_out(*command: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=lambda: os.sched_setaffinity(0, core),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    return carried_out
