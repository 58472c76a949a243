"""The web process's end: starts the engine process, watches it, starts another when it dies or stands still.

    submit ─▶ Generation ─ tokens as they are drawn ─▶ its end, or EngineGone

Every request in flight when the engine is lost is told at once. A process that has said nothing for `stale_seconds` is
not ready; after `dead_seconds` it is killed, which frees its memory for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from farthing.server.backend.generation import EngineGone, EngineRefused, Generation, ModelAbsent
from farthing.server.backend.wire import LONGEST_LINE, Message, decode, encode

log = logging.getLogger("farthing.server")

_BACKOFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_SECONDS = 60.0


State = Literal["loading", "ready", "down", "stopped"]


class EngineLink:
    """The engine process, or the absence of one."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        threads: int,
        stale_seconds: float = 4.0,
        dead_seconds: float = 8.0,
        on_end: Callable[[Generation], None] = lambda generation: None,
    ) -> None:
        self.state: State = "loading"
        self.facts: list[dict[str, Any]] = []
        self.states: list[str] = []
        self.load: list[dict[str, int]] = []
        self.resident_bytes = 0
        self.in_turns = False
        self.used: dict[int, float] = {}
        self.fatal: str | None = None
        self.restarts = 0
        self.freed = 0
        self.changed = asyncio.Event()
        self.in_flight: dict[str, Generation] = {}
        self._settings, self._threads = dict(settings), threads
        self._stale, self._dead, self.on_end = stale_seconds, dead_seconds, on_end
        self._heard = self._last_token = time.monotonic()
        self._number = 0
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._checks: dict[str, asyncio.Future[str | None]] = {}

    # ---- what the rest of the server sees

    @property
    def silent_seconds(self) -> float:
        """How long nothing has been heard of the engine."""
        return time.monotonic() - self._heard

    @property
    def is_ready(self) -> bool:
        """Loaded, and heard of lately: its main thread, which also computes, writes a beat every half second."""
        return self.state == "ready" and self.silent_seconds < self._stale

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def submit(
        self,
        model: int,
        prompt: Sequence[int],
        params: Mapping[str, Any],
        *,
        steering: Mapping[str, Any] | None = None,
        grammar: str | None = None,
        wake: asyncio.Event | None = None,
    ) -> Generation:
        """Hand a request to the engine. Raises EngineGone when there is none."""
        if self.state != "ready":
            raise EngineGone(f"the engine is {self.state}")
        self._number += 1
        name = str(self._number)
        generation = Generation(self, name, model, wake or asyncio.Event(), len(prompt))
        self.in_flight[name] = generation
        self.used[model] = generation.submitted
        self.send(
            {
                "op": "add",
                "model": model,
                "id": name,
                "prompt": list(prompt),
                "params": dict(params),
                "steering": dict(steering or {}),
                "grammar": grammar,
            }
        )
        return generation

    async def unload(self, model: int, seconds: float) -> bool:
        """Have a model leave memory when it has nothing to do; whether it has left within so many seconds."""
        self.send({"op": "unload", "model": model})
        until = time.monotonic() + seconds
        while self.state == "ready" and self.states[model] != "unloaded":
            changed = self.changed
            try:
                await asyncio.wait_for(changed.wait(), until - time.monotonic())
            except TimeoutError:
                return False
        return True

    async def check(self, seconds: float = 10.0) -> str | None:
        """What is wrong with the engine's books, None if nothing; raises EngineGone or TimeoutError."""
        if self.state != "ready":
            raise EngineGone(f"the engine is {self.state}")
        self._number += 1
        name = str(self._number)
        self._checks[name] = asyncio.get_running_loop().create_future()
        self.send({"op": "check", "id": name})
        return await asyncio.wait_for(self._checks[name], seconds)

    def send(self, message: Mapping[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    def forget(self, generation: Generation) -> None:
        if self.in_flight.pop(generation.name, None) is not None:
            self.used[generation.model] = time.monotonic()
            self.on_end(generation)

    # ---- its life

    def start(self) -> None:
        """Begin to load; `changed` is set at every change of state."""
        self._tasks = [asyncio.create_task(self._live()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        """End the process and everything in flight."""
        self._become("stopped")
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._lose(EngineGone("the server is shutting down"))
        await self._end_process()

    async def _live(self) -> None:
        """One process after the other, until one cannot be loaded at all."""
        failures = 0
        while True:
            started = time.monotonic()
            await self._one_life()
            self._lose(EngineGone("the engine stopped unexpectedly and is being restarted"))
            if self.fatal is not None:
                self._become("down")
                return
            failures = 0 if time.monotonic() - started > _HEALTHY_SECONDS else failures + 1
            self._become("down")
            self.restarts += 1
            log.warning("the engine process has ended; starting another")
            await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])

    async def _one_life(self) -> None:
        """Start a process and read what it says until it ends."""
        connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        connected = asyncio.get_running_loop().create_future()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close() if connected.done() else connected.set_result((reader, writer))

        with tempfile.TemporaryDirectory(prefix="farthing-") as folder:  # mode 0700
            path = Path(folder) / "engine"
            server = await _listen(accept, path)
            try:
                self._process = await self._spawn(path)
                self._become("loading")
                ended = asyncio.ensure_future(self._process.wait())
                first: list[asyncio.Future[Any]] = [connected, ended]
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                server.close()
                if connected.done():
                    reader, self._writer = connected.result()
                    await self._read(reader)
                await self._end_process()
                await ended
            finally:
                server.close()

    async def _spawn(self, path: Path) -> asyncio.subprocess.Process:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self._threads),
            "MKL_NUM_THREADS": str(self._threads),
        }
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "farthing.server.backend.engine_process",
            str(path),
            json.dumps(self._settings | {"threads": self._threads}),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
        )

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            async for line in reader:
                self._heard = time.monotonic()
                self._take(decode(line))
        except (ConnectionError, ValueError) as problem:
            log.warning("the engine process said something that cannot be read: %s", problem)

    def _take(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "tokens":
            self._deliver(message["events"])
        elif kind == "failed":
            generation = self.in_flight.get(message["id"])
            if generation is not None:
                kind_of_end = ModelAbsent if message.get("absent") else EngineRefused
                generation.fail(kind_of_end(message["message"]))
                self.forget(generation)
        elif kind == "freed":
            self.freed += 1
        elif kind == "beat":
            self.load = message["models"]
            self.resident_bytes = message.get("resident_bytes", 0)
        elif kind == "hello":
            self.facts, self.states = message["models"], message["states"]
            self.in_turns, self.resident_bytes = message["in_turns"], message["resident_bytes"]
            self._become("ready")
        elif kind == "model":
            number = message["model"]
            self.facts[number], self.states[number] = message["facts"], message["state"]
            self._signal()
        elif kind == "checked":
            waiting = self._checks.pop(message["id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message["message"])
        elif kind == "fatal":
            self.fatal = message["message"]

    def _deliver(self, rows: list[list[Any]]) -> None:
        self._last_token = self._heard
        for row in rows:
            generation = self.in_flight.get(row[0])
            if generation is None:
                continue
            if len(row) > 3 and row[3].get("end") == "failed":
                continue  # why is said in the next line
            generation.push(row, self._heard)
            if generation.ended:
                self.forget(generation)

    async def _watch(self) -> None:
        """Kill a process that stands still: a deadlock, an endless step, a stopped process."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(self._stale / 8)
            if time.monotonic() - before > self._stale:
                self._heard = (
                    time.monotonic()
                )  # it was this process that stood still, perhaps the whole machine
            if self.state == "ready" and self.silent_seconds > self._dead and self._process is not None:
                log.error("the engine has said nothing for %.1f s; killing it", self.silent_seconds)
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()

    def _lose(self, problem: EngineGone) -> None:
        for generation in list(self.in_flight.values()):
            generation.fail(problem)
            self.forget(generation)
        for waiting in self._checks.values():
            if not waiting.done():
                waiting.set_exception(problem)
                waiting.exception()  # whoever asked may have left
        self._checks.clear()
        self.load = []
        self.states = ["unloaded"] * len(self.states)

    async def _end_process(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._process is None:
            return
        if self._process.returncode is None:
            try:
                await asyncio.wait_for(self._process.wait(), 1.0)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def _become(self, state: State) -> None:
        self.state = state
        self._heard = time.monotonic()
        self._signal()

    def _signal(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


async def _listen(accept: Callable[..., None], path: Path) -> asyncio.Server:
    """A unix socket that only this user may open."""
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(accept, path, limit=LONGEST_LINE)
    finally:
        os.umask(before)
