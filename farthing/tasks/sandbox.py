"""A pool of killable processes for checks that may hang, crash or eat memory.

Each worker serves one function, one call at a time, over pipes in JSON lines (no pickle). A call has a
wall-clock limit that begins when an idle, warmed-up worker is handed it: waiting for a worker never counts.
A worker that overruns, dies or answers nonsense is killed with its whole process group and replaced; the
call's outcome is then an error that says what happened, and the other calls go on.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from farthing.errors import TaskError

_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = (
    f"import sys; sys.path.append({_ROOT!r}); from farthing.tasks.worker import main;"
    " main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MAX_REPLY_BYTES = 1 << 20
OVERSLEPT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: `value` (JSON) when `error` is None. `seconds` of wall time in the worker."""

    value: Any = None
    error: str | None = None
    seconds: float = 0.0


class _Worker:
    """One process: starting, then idle, then busy with `job` until `deadline` (monotonic seconds)."""

    def __init__(self, target: str, extra_bytes: int, call_limit: float, start_limit: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, target, str(extra_bytes), str(2 * call_limit + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **_ONE_THREAD},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input, self.output = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.input, False)
        os.set_blocking(self.output, False)
        self.ready = False
        self.job: int | None = None
        self.started = time.monotonic()
        self.deadline = self.started + start_limit
        self.outgoing = memoryview(b"")
        self.incoming = bytearray()

    def give(self, job: int, arguments: dict[str, Any], limit: float) -> None:
        self.job = job
        self.started = time.monotonic()
        self.deadline = self.started + limit
        self.outgoing = memoryview(json.dumps(arguments).encode() + b"\n")
        self.push()

    def push(self) -> None:
        """Send what the pipe takes without waiting; a closed pipe shows when its output is read."""
        try:
            while self.outgoing:
                self.outgoing = self.outgoing[os.write(self.input, self.outgoing) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.outgoing = memoryview(b"")

    def pull(self) -> dict[str, Any] | str | None:
        """A whole reply, None when it is not all there yet, or a string that says how the worker failed."""
        try:
            while chunk := os.read(self.output, 65536):
                self.incoming += chunk
                if len(self.incoming) > MAX_REPLY_BYTES:
                    return "the result is too large"
        except BlockingIOError:
            return self._reply()
        return self._reply() or f"the checking process ended ({self._ending()})"

    def _reply(self) -> dict[str, Any] | str | None:
        line, newline, rest = bytes(self.incoming).partition(b"\n")
        if not newline:
            return None
        self.incoming = bytearray(rest)
        reply = json.loads(line)
        return reply if isinstance(reply, dict) else "the checking process broke its protocol"

    def ended(self) -> str | None:
        """How the process ended, or None while it runs. It is not reaped: until `kill`, its group's id
        stays its own."""
        status = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if status is None:
            return None
        return f"{'exit status' if status.si_code == os.CLD_EXITED else 'signal'} {status.si_status}"

    def _ending(self) -> str:
        deadline = time.monotonic() + 1.0
        while (ending := self.ended()) is None and time.monotonic() < deadline:
            time.sleep(0.001)
        return ending or "its output was closed"

    def kill(self) -> None:
        """End the process and whatever it started; it leads its own group, so the group's id is its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Pool:
    """Workers for one function, named as `package.module:function` or `file.py:function`.

    `seconds`: wall-clock limit of one call. `memory_mb`: what a call may allocate beyond the loaded module
    (Linux). Workers start at the first call and stay warm. Safe to share between threads: calls wait for
    one another.
    """

    def __init__(
        self,
        target: str,
        *,
        workers: int = 2,
        seconds: float = 5.0,
        memory_mb: int = 1024,
        start_seconds: float = 120.0,
    ) -> None:
        self.target = target
        self.size = max(1, workers)
        self.seconds = seconds
        self.memory_bytes = memory_mb << 20
        self.start_seconds = start_seconds
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def run(self, calls: Sequence[dict[str, Any]]) -> list[Outcome]:
        """Outcomes in the order of `calls` (keyword arguments of the function, JSON).

        Raises TaskError when the function cannot be loaded at all: then no call can ever succeed.
        """
        with self._lock:
            waiting = deque(range(len(calls)))
            done: dict[int, Outcome] = {}
            try:
                while len(done) < len(calls):
                    self._staff(len(calls) - len(done))
                    self._hand_out(waiting, calls)
                    self._listen(done)
            except BaseException:
                self._drop_all()
                raise
            return [done[i] for i in range(len(calls))]

    def close(self) -> None:
        """End all workers. The pool can be used again and will start new ones."""
        with self._lock:
            self._drop_all()

    def _drop_all(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers = []

    def _staff(self, needed: int) -> None:
        for worker in [w for w in self._workers if w.ready and w.job is None and w.ended() is not None]:
            worker.kill()  # it died while idle, which is no call's fault
            self._workers.remove(worker)
        while len(self._workers) < min(self.size, needed):
            self._workers.append(_Worker(self.target, self.memory_bytes, self.seconds, self.start_seconds))

    def _hand_out(self, waiting: deque[int], calls: Sequence[dict[str, Any]]) -> None:
        for worker in self._workers:
            if worker.ready and worker.job is None and waiting:
                job = waiting.popleft()
                worker.give(job, calls[job], self.seconds)

    def _listen(self, done: dict[int, Outcome]) -> None:
        """Wait for the first thing to happen: a reply, a death, room in a pipe, a deadline."""
        active = [w for w in self._workers if w.job is not None or not w.ready]
        with selectors.DefaultSelector() as selector:
            for worker in active:
                selector.register(worker.output, selectors.EVENT_READ)
                if worker.outgoing:
                    selector.register(worker.input, selectors.EVENT_WRITE)
            before = time.monotonic()
            patience = max(0.0, min(worker.deadline for worker in active) - before)
            selector.select(patience)
        took = time.monotonic() - before
        for worker in active:
            if took > patience + OVERSLEPT_SECONDS:
                # We were stopped ourselves (Ctrl-Z, a suspended machine) and most likely the workers with us, and
                # nothing says for how long of that time: let the wait begin again.
                worker.deadline += took
            worker.push()
            self._attend(worker, done)

    def _attend(self, worker: _Worker, done: dict[int, Outcome]) -> None:
        reply = worker.pull()
        if reply is None and time.monotonic() >= worker.deadline:
            limit = self.seconds if worker.ready else self.start_seconds
            reply = f"timeout: no result within {limit:g} s"
        if reply is None:
            return
        failed = reply if isinstance(reply, str) else reply.get("error")
        if not worker.ready:
            if failed is not None:
                raise TaskError(f"{self.target} cannot be loaded: {failed}")
            worker.ready = True
            return
        assert worker.job is not None
        took = time.monotonic() - worker.started
        value = None if isinstance(reply, str) else reply.get("value")
        done[worker.job] = Outcome(value, failed, took)
        worker.job = None
        if isinstance(reply, str) or failed == "out of memory":
            worker.kill()
            self._workers.remove(worker)


@cache
def shared(target: str, workers: int, seconds: float, memory_mb: int) -> Pool:
    """One pool per function and limits for the whole process, closed when it ends."""
    pool = Pool(target, workers=workers, seconds=seconds, memory_mb=memory_mb)
    atexit.register(pool.close)
    return pool
