"""Server-sent events by the rules that clients really follow.

Headers and a first comment go out before the prompt is computed; while nothing comes, a comment every few seconds keeps
proxies from cutting the line; a failure after the headers is an `error` event, never a stream that just ends; a client
that leaves cancels the work behind the stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.shown import frame

log = logging.getLogger("farthing.server")
Result = TypeVar("Result")

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_COMMENT = b": keep-alive\n\n"


class EventStream:
    """The ASGI response of a stream of `frames`, each one or more whole events. `close` is called at its end, however
    it ends, even if nothing of it could be sent."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        close: Callable[[], None],
        keepalive_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._frames, self._close, self._keepalive = frames, close, keepalive_seconds
        self._headers = _HEADERS | dict(headers or {})
        self._last_sent = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._run(receive, send)
        finally:
            self._close()

    async def _run(self, receive: Receive, send: Send) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._send(send, b": ok\n\n")
        writing = asyncio.ensure_future(self._write(send))
        watching = asyncio.ensure_future(_left(receive))
        waking = asyncio.ensure_future(self._keep_alive(send))
        try:
            await asyncio.wait([writing, watching], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(writing, watching, waking)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send) -> None:
        try:
            async for data in self._frames:
                await self._send(send, data)
        except ApiError as error:
            await self._send(send, frame(error.envelope()))
        except OSError:
            log.debug("the client's socket was closed")
        except Exception:  # whatever it is, the client hears of it, and the log has the traceback
            log.exception("a stream failed")
            await self._send(send, frame(ApiError(500, "internal error", "internal_error").envelope()))

    async def _keep_alive(self, send: Send) -> None:
        while True:
            quiet = time.monotonic() - self._last_sent
            if quiet >= self._keepalive:
                await self._send(send, _COMMENT)
                quiet = 0.0
            await asyncio.sleep(self._keepalive - quiet)

    async def _send(self, send: Send, data: bytes) -> None:
        self._last_sent = time.monotonic()
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _left(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(work: Coroutine[Any, Any, Result], receive: Receive) -> Result | None:
    """What `work` gives, or None when the client went away first; then the work is cancelled."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        await _cancelled(working, watching)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    """End tasks and wait until they have; what they raised was dealt with or does not matter any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
