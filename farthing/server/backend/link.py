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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from farthing.server.backend.wire import LONGEST_LINE, Message, decode, encode

log = logging.getLogger("farthing.server")

_BACKOFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_SECONDS = 60.0


class EngineGone(Exception):
    """The engine process has died or was killed; what it was computing is lost."""


class EngineRefused(Exception):
    """The engine could not carry out this one request."""


@dataclass
class Token:
    """One token as it came; `more` holds what is not there every time: "top", "end", "cached", "thought", "prompt",
    and with the first one "prefill", the seconds since the request got its place."""

    token_id: int
    logprob: float
    more: dict[str, Any] | None = None


@dataclass(eq=False)
class Generation:
    """One request in flight. `fresh` holds what came and was not taken; `wake` is set whenever something comes."""

    link: EngineLink
    name: str
    model: int
    wake: asyncio.Event
    prompt_tokens: int
    submitted: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    seated: float | None = None
    tokens: int = 0
    fresh: deque[Token] = field(default_factory=deque)
    ended: bool = False
    problem: Exception | None = None

    def abort(self) -> None:
        """Stop it, wherever it is. Harmless when it has ended."""
        if not self.ended:
            self.ended = True
            self.link.forget(self)
            self.link.send({"op": "abort", "model": self.model, "id": self.name})

    def close_thought(self) -> None:
        """End the thinking now; the answer follows."""
        self.link.send({"op": "close_thought", "model": self.model, "id": self.name})

    def take(self) -> list[Token]:
        """What has come since the last call. Raises what went wrong, once everything before it was taken."""
        taken = list(self.fresh)
        self.fresh.clear()
        if not taken and self.problem is not None:
            raise self.problem
        return taken

    def push(self, row: list[Any], now: float) -> None:
        """A token has come."""
        more = row[3] if len(row) > 3 else None
        self.tokens += 1
        self.fresh.append(Token(row[1], row[2], more))
        if more is not None and "end" in more:
            self.ended = True
        if self.first_token is None:
            self.first_token = now
            self.seated = max(self.submitted, now - (more or {}).get("prefill", 0.0))
        self.wake.set()

    def fail(self, problem: Exception) -> None:
        self.ended, self.problem = True, problem
        self.wake.set()


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
        self.load: list[dict[str, int]] = []
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
                generation.fail(EngineRefused(message["message"]))
                self.forget(generation)
        elif kind == "freed":
            self.freed += 1
        elif kind == "beat":
            self.load = message["models"]
        elif kind == "hello":
            self.facts = message["models"]
            self._become("ready")
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
        self.changed.set()
        self.changed = asyncio.Event()


async def _listen(accept: Callable[..., None], path: Path) -> asyncio.Server:
    """A unix socket that only this user may open."""
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(accept, path, limit=LONGEST_LINE)
    finally:
        os.umask(before)
