"""What holds for every test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is no failure, and a run of the suite finds what the last one found.
settings.register_profile("farthing", deadline=None, derandomize=True)
settings.load_profile("farthing")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def on_one_core() -> Callable[..., str]:
    """A Python process of its own on one core, because a run fixes the number of threads of its process: called with
    the words of its command line, gives the last line it prints."""

    def carried_out(*command: object) -> str:
        core = {max(os.sched_getaffinity(0))}
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
