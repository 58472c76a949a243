"""What a stream sends, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.sse import EventStream

SECONDS = 20.0


def sent(frames: AsyncIterator[bytes], leaves: asyncio.Event | None = None) -> list[dict[str, Any]]:
    """All messages to a client that stays until `leaves`, and at their end whether the stream was closed."""

    async def run() -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        closed: list[bool] = []

        async def send(message: Any) -> None:
            messages.append(dict(message))

        async def receive() -> dict[str, Any]:
            await (leaves or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        stream = EventStream(frames, lambda: closed.append(True), 60.0)
        await asyncio.wait_for(stream({"type": "http"}, receive, send), SECONDS)
        assert closed == [True]
        return messages

    return asyncio.run(run())


async def pause() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_comes_together_goes_out_together() -> None:
    async def frames() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        await pause()
        yield b"c"
        await pause()
        yield b"d"
        yield b"e"

    start, *bodies = sent(frames())
    assert start["status"] == 200 and (b"cache-control", b"no-cache") in start["headers"]
    assert [body["body"] for body in bodies] == [b": ok\n\nab", b"c", b"de"]
    assert [body["more_body"] for body in bodies] == [True, True, False]


def test_a_failure_is_the_last_event() -> None:
    async def frames(problem: Exception) -> AsyncIterator[bytes]:
        yield b"a"
        raise problem

    for problem, code in ((ApiError(429, "too much", "busy"), b"busy"), (KeyError("x"), b"internal_error")):
        *_, last = sent(frames(problem))
        assert last["body"].startswith(b": ok\n\nadata: ") and code in last["body"] and not last["more_body"]


def test_who_leaves_ends_what_is_behind_the_stream() -> None:
    leaves, ended = asyncio.Event(), []

    async def frames() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            leaves.set()
            await asyncio.sleep(SECONDS)
        finally:
            ended.append(True)

    assert sent(frames(), leaves)[-1]["more_body"] and ended == [True]
