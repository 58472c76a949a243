"""Both sides of a comparison in processes of their own: a fresh one has a memory of its own, and is told when to go."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

DEADLINE_S = 600.0


class Side:
    """A process that runs `target(connection, work)`, which answers every True it receives and ends on False."""

    def __init__(self, target: Callable[[Connection, Any], None], work: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()

    def step(self, deadline_s: float = DEADLINE_S) -> Any:
        """Its answer. Raises EOFError if the process ended, TimeoutError if it did not answer."""
        self.connection.send(True)
        if not self.connection.poll(deadline_s):
            raise TimeoutError(f"no answer within {deadline_s:.0f} s")
        return self.connection.recv()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # It may just have ended by itself.
            self.connection.send(False)
        self.process.join(10)
        self.process.kill()


def memory(name: str) -> int:
    """VmRSS or VmHWM, the highest there was, of this process; bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def after_imports() -> int:
    """The resident bytes now; the highest is counted anew from here on. What torch's optimizers import at their first
    use is among the imports: TRL has imported it long before, a plain script only then."""
    importlib.import_module("torch._dynamo")
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")
