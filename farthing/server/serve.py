"""`farthing serve`, from settings to a server that has ended: one web process, one engine process, one socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from starlette.applications import Starlette

from farthing.cost.hardware import available_cores
from farthing.errors import CheckpointError, UserError
from farthing.server.app import build
from farthing.server.backend.link import EngineLink
from farthing.server.banner import address, greeting
from farthing.server.documents.routes import DocumentRoutes
from farthing.server.model_routes import ModelRoutes
from farthing.server.pages.history import History
from farthing.server.pages.history_routes import HistoryRoutes
from farthing.server.pages.pages import page_routes
from farthing.server.pages.preset_routes import PresetRoutes
from farthing.server.pages.run_routes import RunRoutes
from farthing.server.pages.writing import Writers
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.models import ServedModel, open_served
from farthing.server.security import Door, Keys, is_loopback, read_keys
from farthing.server.service import Service

_GRACE_SECONDS = 3
_MOST_CONNECTIONS = 1024
_WAITING_CONNECTIONS = 256
FEW_MINUTES = 300.0


@dataclass(frozen=True)
class Settings:
    """What `farthing serve` was told. `models`: (name or None, directory). Zero or None: decide by measuring.
    `conversations`: the file the chat page keeps them in; None keeps them as long as the server runs. `runs`: a
    directory of runs to show. `keep_alive`: seconds after which an idle model leaves memory; None: never where there
    is only one, FEW_MINUTES where there are several."""

    models: Sequence[tuple[str | None, Path]]
    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: Path | None = None
    allowed_hosts: Sequence[str] = ()
    allowed_origins: Sequence[str] = ()
    context: int | None = None
    threads: int | None = None
    dtype: str = "auto"
    quantize: str | None = None
    running: int | None = None
    cache_bytes: int | None = None
    measure_seconds: float = 1.0
    conversations: Path | None = None
    runs: Path | None = None
    keep_alive: float | None = None
    limits: Limits = field(default_factory=Limits)
    say: Callable[[str], None] = print


def serve(settings: Settings) -> None:
    """Serve until a signal ends it. Raises UserError for what a person can mend, before or after the models load."""
    door = _door(settings)
    models = _open(settings)
    threads, why = threads_of(settings.threads)
    told = engine_settings(settings, models)
    link = EngineLink(told, threads=threads)
    service = Service(models, link, settings.limits)
    link.on_end = service.ended
    history = History(settings.conversations)
    writers = Writers(service, history)
    pages = [
        *page_routes(settings.runs is not None),
        *HistoryRoutes(service, history, writers).routes(),
        *DocumentRoutes(service, history).routes(),
        *ModelRoutes(service, told["keep_alive"]).routes(),
        *PresetRoutes(history, settings.limits).routes(),
        *(RunRoutes(settings.runs).routes() if settings.runs is not None else ()),
    ]
    listening = listen_on(settings.host, settings.port)
    server: list[Server] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        link.start()
        url = address(settings.host, listening.getsockname()[1])
        telling = asyncio.create_task(_tell(service, settings, why, url, server[0].leave))
        try:
            yield
        finally:
            telling.cancel()
            await writers.stop_all()
            await link.stop()
            history.close()

    config = uvicorn.Config(
        build(service, door, lifespan, pages),
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=settings.limits.header_bytes,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server.append(Server(config, service))
    with listening, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server[0].serve(sockets=[listening]))
    if link.fatal is not None:
        raise CheckpointError(link.fatal)


class Server(uvicorn.Server):
    """uvicorn, told apart in one thing: the first signal ends open streams with a word, the second ends everything."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def leave(self) -> None:
        """End, as after a signal."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and self._service.link.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._service.link.pid, signal.SIGKILL)
        if self.should_exit:
            os._exit(130)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._service.drain)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that has been obeyed is not raised again."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


async def _tell(service: Service, settings: Settings, why: str, url: str, leave: Callable[[], None]) -> None:
    """Say where the server is and, once it is known, what it can do; leave when the models cannot be loaded."""
    names = ", ".join(model.name for model in service.models)
    settings.say(f"farthing: loading {names}; the server is at {url}")
    told = False
    while True:
        change = service.link.changed
        for model, facts in zip(service.models, service.link.facts, strict=False):
            model.facts = facts
        if service.link.fatal is not None:
            leave()
            return
        if service.link.state == "ready" and not told:
            told = True
            settings.say(greeting(service.models, url, why, service.link.in_turns))
        await change.wait()


def engine_settings(settings: Settings, models: Sequence[ServedModel]) -> dict[str, Any]:
    """What the engine process is told."""
    several = FEW_MINUTES if len(models) > 1 else float("inf")
    return {
        "keep_alive": several if settings.keep_alive is None else settings.keep_alive,
        "models": [
            {"directory": str(model.directory.resolve()), "stop_ids": list(model.stop_ids)}
            for model in models
        ],
        "dtype": settings.dtype,
        "quantize": settings.quantize,
        "context": settings.context,
        "running": settings.running,
        "cache_bytes": settings.cache_bytes,
        "measure_seconds": settings.measure_seconds,
    }


def threads_of(asked: int | None) -> tuple[int, str]:
    """How many threads compute, and why so many: more than there are cores slows everything down many times over."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if asked:
        return asked, "as asked"
    if named.isdigit() and int(named) > 0:
        return int(named), f"OMP_NUM_THREADS is {named}"
    cores = available_cores()
    threads = max(1, int(cores))
    exact = "" if cores == threads else f" (a quota of {cores:.1f})"
    return threads, f"as many cores as this process may use{exact}"


def _door(settings: Settings) -> Door:
    local = is_loopback(settings.host)
    keys = read_keys(settings.api_key_file) if settings.api_key_file else Keys()
    if not local and not keys:
        raise UserError(
            f"--host {settings.host} can be reached from elsewhere, so a key is needed: "
            "write one into a file and add --api-key-file FILE"
        )
    hosts = [host.lower() for host in settings.allowed_hosts]
    for origin in settings.allowed_origins:
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise UserError(
                f"--allow-origin {origin}: write scheme and host, for example https://chat.example.org"
            )
    return Door(keys, local, hosts, settings.allowed_origins)


def _open(settings: Settings) -> list[ServedModel]:
    models = [open_served(path, number, name) for number, (name, path) in enumerate(settings.models)]
    names = [model.name for model in models]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UserError(f"two models are called {double!r}; name them: farthing serve first=DIR second=DIR")
    return models


def listen_on(host: str, port: int) -> socket.socket:
    """A listening socket, or one line that says why not. Who connects before anybody accepts waits and is served."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, because asyncio switches Nagle's algorithm off only for sockets that say so; with it every answer
    # waits 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
        # Here and not by uvicorn, which listens after the lifespan has begun: where the server is was said by then.
        listening.listen(_WAITING_CONNECTIONS)
    except (OSError, OverflowError) as problem:
        listening.close()
        hint = f"; try --port {port + 1}" if getattr(problem, "errno", None) == 98 else ""
        raise UserError(
            f"cannot listen on {host} port {port}: {getattr(problem, 'strerror', problem)}{hint}"
        ) from None
    listening.set_inheritable(True)
    return listening
