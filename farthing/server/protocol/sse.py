"""Server-sent events by the rules that clients really follow.

Headers and a first comment go out before the prompt is computed; while nothing comes, a comment every few seconds keeps
proxies from cutting the line; a failure after the headers is an `error` event, never a stream that just ends; a client
that leaves cancels the work behind the stream.
"""

from __future__ import annotations

import asyncio
import logging
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
_OPENING = b": ok\n\n"
_COMMENT = b": keep-alive\n\n"


class EventStream:
    """The ASGI response of a stream of `frames`, each one or more whole events. `close` is called at its end, however
    it ends, even if nothing of it could be sent.

    Frames that come without a wait between them go out together: what a client costs goes by how often it is written
    to."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        close: Callable[[], None],
        keepalive_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._frames, self._close, self._keepalive = frames, close, keepalive_seconds
        self._headers = _HEADERS | dict(headers or {})
        self._waiting, self._over = _OPENING, False
        self._news = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._run(receive, send)
        finally:
            self._close()

    async def _run(self, receive: Receive, send: Send) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        self._news.set()
        reading = asyncio.ensure_future(self._read())
        writing = asyncio.ensure_future(self._write(send))
        watching = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait([writing, watching], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(reading, writing, watching)

    async def _read(self) -> None:
        """The frames, to their end; whatever goes wrong becomes an event."""
        try:
            async for data in self._frames:
                self._add(data)
        except ApiError as error:
            self._add(frame(error.envelope()))
        except Exception:  # whatever it is, the client hears of it, and the log has the traceback
            log.exception("a stream failed")
            self._add(frame(ApiError(500, "internal error", "internal_error").envelope()))
        self._over = True
        self._news.set()

    def _add(self, data: bytes) -> None:
        self._waiting += data
        self._news.set()

    async def _write(self, send: Send) -> None:
        """What has come, as soon as the client takes it; a comment where nothing has come for long."""
        over = False
        try:
            while not over:
                try:
                    async with asyncio.timeout(self._keepalive):
                        await self._news.wait()
                except TimeoutError:
                    self._waiting = self._waiting or _COMMENT
                self._news.clear()
                data, over, self._waiting = self._waiting, self._over, b""
                await send({"type": "http.response.body", "body": data, "more_body": not over})
        except OSError:
            log.debug("the client's socket was closed")


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
