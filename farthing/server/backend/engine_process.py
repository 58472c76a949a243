"""The engine's own process: reads requests from a socket, steps the engines, writes tokens back.

    python -m farthing.server.backend.engine_process SOCKET SETTINGS

The first model is loaded at the start, the others when they are asked for. One thread computes; another only reads
lines into a queue and ends the process when the web process is gone; a third loads, while others are served. Whatever
can be wrong with a request was refused before it came here; what still fails, fails alone. An exception in a step is a
bug: the process ends, and the web process tells everybody and starts another.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

from farthing.engine.api import Request, SamplingParams, TokenEvent
from farthing.errors import FarthingError
from farthing.server.backend.bundle import Row
from farthing.server.backend.loading import Served, free_memory, load, prepare, resident_bytes
from farthing.server.backend.residents import Residents
from farthing.server.backend.wire import BEAT_SECONDS, Message, decode, encode

# What a load may fail with and leave the process sound; anything else is a bug and ends it.
_LOAD_FAILS = (FarthingError, OSError, MemoryError, RuntimeError)


_ABSENT = dict.fromkeys(("running", "waiting", "cold", "blocks", "free_blocks", "cache_bytes"), 0)


class EngineProcess:
    """Engines and the connection they are driven by."""

    def __init__(self, connection: socket.socket, settings: dict[str, Any]) -> None:
        self._connection = connection
        self._settings = settings
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._residents: Residents[Served]
        self._facts: list[dict[str, Any]] = []
        self._last_beat = 0.0

    def run(self) -> None:
        """Load the first model, say hello, then work until the connection ends."""
        threading.Thread(target=self._read, daemon=True).start()
        models = self._settings["models"]
        try:
            first, self._facts, in_turns = prepare(models, self._settings)
        except FarthingError as error:
            self._send({"kind": "fatal", "message": str(error)})
            return
        self._residents = Residents(
            len(models), self._begin_load, keep_alive=self._settings["keep_alive"], in_turns=in_turns
        )
        self._residents.arrived(0, first)
        del first  # or it could never be unloaded
        hello = {"states": self._states(), "in_turns": in_turns, "resident_bytes": resident_bytes()}
        self._send({"kind": "hello", "models": self._facts, **hello})
        while True:
            self._take_messages()
            for number in self._residents.turn():
                free_memory()
                self._tell(number, "unloaded")
            self._step_all()
            self._beat()

    def _step_all(self) -> None:
        # A frame of its own, so that no name of the endless loop holds on to a model that has left.
        for number, served in self._residents.present():
            if not served.is_idle:
                self._step(number, served)

    def _states(self) -> list[str]:
        return [place.state for place in self._residents.places]

    def _tell(self, number: int, state: str) -> None:
        self._send({"kind": "model", "model": number, "state": state, "facts": self._facts[number]})

    # ---- loading, beside the work for other models

    def _begin_load(self, number: int) -> None:
        self._tell(number, "loading")
        threading.Thread(target=self._load, args=(number,), daemon=True).start()

    def _load(self, number: int) -> None:
        """In a thread of its own; the outcome is a message like any other."""
        outcome: Served | Exception
        try:
            outcome = load(self._settings["models"][number], self._settings, self._facts[number])
        except Exception as problem:  # it is raised again where it matters
            outcome = problem
        self._inbox.put({"op": "arrived", "model": number, "outcome": outcome})

    def _arrived(self, number: int, outcome: Served | Exception) -> None:
        if isinstance(outcome, _LOAD_FAILS):
            for message in self._residents.failed(number):
                words = f"the model cannot be loaded: {outcome}"
                self._send({"kind": "failed", "id": message["id"], "message": words, "absent": True})
            self._tell(number, "unloaded")
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            self._facts[number] = outcome.facts
            held = self._residents.arrived(number, outcome)
            self._tell(number, "ready")
            for message in held:
                self._do(outcome, message)

    # ---- what the web process says

    def _read(self) -> None:
        """Lines into the inbox. When they end there is nobody to work for."""
        try:
            with self._connection.makefile("rb") as lines:
                for line in lines:
                    self._inbox.put(decode(line))
        finally:
            os._exit(0)

    def _take_messages(self) -> None:
        """All that have come; with nothing to compute, wait for one."""
        idle = all(served.is_idle for _, served in self._residents.present())
        try:
            self._handle(self._inbox.get(timeout=BEAT_SECONDS) if idle else self._inbox.get_nowait())
            while True:
                self._handle(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _handle(self, message: Message) -> None:
        operation, name = message["op"], message.get("id", "")
        if operation == "check":
            self._send({"kind": "checked", "id": name, "message": self._complaint()})
            return
        number = message["model"]
        served = self._residents.places[number].model
        if operation == "arrived":
            self._arrived(number, message["outcome"])
        elif operation == "unload":
            self._residents.leave(number)
        elif operation == "add":
            there = self._residents.seat(message)
            if there is not None:
                self._do(there, message)
        elif operation == "abort":
            if not self._residents.forget(number, name) and served is not None:
                served.drop(name)
            self._send({"kind": "freed", "id": name})
        elif operation == "close_thought" and not self._residents.follow(message) and served is not None:
            self._do(served, message)

    def _do(self, served: Served, message: Message) -> None:
        """What concerns a model that is in memory: a new request, or the end of a thought."""
        if message["op"] == "add":
            self._add(served, message)
        elif message["id"] in served.steering:
            served.steering[message["id"]].close_thought()

    def _add(self, served: Served, message: Message) -> None:
        name = message["id"]
        try:
            steering = served.steer(message["steering"], message["grammar"])
            params = SamplingParams(**message["params"] | {"stop_token_ids": served.stop_ids})
            served.engine.add(Request(tuple(message["prompt"]), params, name, steering))
        except (FarthingError, ValueError) as error:
            self._send({"kind": "failed", "id": name, "message": str(error)})
            return
        served.seated[name] = None
        if steering is not None:
            served.steering[name] = steering

    def _step(self, number: int, served: Served) -> None:
        if served.reads_next:
            self._send_tokens(number, served.bundle.all())
        now = time.monotonic()
        events = served.engine.step()
        served.note_seated(now)
        rows, replies = [packed(event, served) for event in events], len(served.engine.scheduler.running)
        self._send_tokens(number, served.bundle.due(rows, replies, time.monotonic()))
        for event in events:
            if event.completion is not None:
                steering = served.steering.pop(event.request_id, None)
                if steering is not None and steering.failure is not None:
                    self._send({"kind": "failed", "id": event.request_id, "message": steering.failure})

    def _send_tokens(self, number: int, rows: list[Row]) -> None:
        if rows:
            self._send({"kind": "tokens", "model": number, "events": rows})

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat >= BEAT_SECONDS:
            self._last_beat = now
            loads = [
                _ABSENT if place.model is None else place.model.load() for place in self._residents.places
            ]
            self._send({"kind": "beat", "models": loads, "resident_bytes": resident_bytes()})

    def _complaint(self) -> str | None:
        """What is wrong with the engines' books; None if nothing is."""
        try:
            for _, served in self._residents.present():
                served.engine.check_integrity()
        except FarthingError as error:
            return str(error)
        return None

    def _send(self, message: Message) -> None:
        self._connection.sendall(encode(message))


def packed(event: TokenEvent, served: Served) -> Row:
    """An event as a short list; its fourth entry, where there is one, has what is not there every time."""
    row: Row = [event.request_id, event.token_id, event.logprob]
    more: dict[str, Any] = {}
    if event.request_id in served.seated:  # its first token
        began = served.seated.pop(event.request_id)
        more["prefill"] = round(time.monotonic() - began, 6) if began is not None else 0.0
    if event.top:
        more["top"] = event.top
    if event.completion is not None:
        more |= _ending(event, served)
    return [*row, more] if more else row


def _ending(event: TokenEvent, served: Served) -> dict[str, Any]:
    done = event.completion
    assert done is not None
    steering = served.steering.get(event.request_id)
    ending: dict[str, Any] = {
        "end": "failed" if steering is not None and steering.failure is not None else done.finish_reason,
        "cached": done.cached_tokens,
    }
    if steering is not None and steering.thought is not None:
        ending["thought"] = steering.thought.why_closed
    if done.prompt_logprobs:
        ending |= {"prompt": done.prompt_logprobs, "prompt_top": done.prompt_top}
    if done.embedding:
        numbers = struct.pack(f"<{len(done.embedding)}f", *done.embedding)
        ending["embedding"] = base64.b64encode(numbers).decode()
    return ending


def main(arguments: list[str]) -> None:
    """The process: `SOCKET` to connect to, `SETTINGS` as JSON."""
    path, settings = arguments[0], json.loads(arguments[1])
    # Ctrl-C in a terminal reaches every process of the group; this one ends with its connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        EngineProcess(connection, settings).run()


if __name__ == "__main__":
    main(sys.argv[1:])
