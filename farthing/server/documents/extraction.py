"""PDFs to text: each in a process of its own with bounded time and memory, one at a time, killed when nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from farthing.server.protocol.errors import ApiError, invalid, unavailable
from farthing.server.service import Service

_MEMORY = 512 << 20
_MOST_INSIDE = 4
_HEADER_WITHIN = 1024
"""Bytes in which a PDF says that it is one."""


class Extracted(NamedTuple):
    """`text` with form feeds between pages; `blank`: how many of the pages have none."""

    text: str
    blank: int


class Extraction:
    """One for a server. Others wait for the PDF that is being read, but only a few of them."""

    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.limits
        self._turn = asyncio.Semaphore(1)
        self._inside = 0

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place among those who send a PDF or wait for one, before its bytes are taken in. Raises ApiError 429."""
        if self._inside >= _MOST_INSIDE:
            raise ApiError(
                429, "other PDFs are being read; try again in a while", "queue_full", retry_after=10
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def read(self, data: bytes) -> Extracted:
        """The text of a PDF. Raises ApiError 400, or 503 where the server is told to end."""
        if b"%PDF-" not in data[:_HEADER_WITHIN]:
            raise invalid("this is no PDF")
        async with self._turn:
            found = None if self._service.draining else await self._in_a_process(data)
        if found is None:
            raise unavailable("the server is shutting down", "shutting_down")
        if "refused" in found:
            raise invalid(f"this PDF cannot be read: {found['refused']}", code="unreadable_pdf")
        return Extracted(found["text"], found["blank"])

    async def _in_a_process(self, data: bytes) -> dict[str, Any] | None:
        """What farthing/server/documents/pdf.py says; None: nobody is to wait for it any longer. Whatever happens, its
        process has ended then."""
        process, seconds, wake = await self._start(), self._limits.pdf_seconds, asyncio.Event()
        self._service.open_wakes.add(wake)
        talking, told = asyncio.ensure_future(process.communicate(data)), asyncio.ensure_future(wake.wait())
        try:
            await asyncio.wait([talking, told], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._service.open_wakes.discard(wake)
            in_time, wanted = talking.done(), not told.done()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            told.cancel()
            said, _ = await talking
        if not in_time:
            return {"refused": f"reading it takes longer than {seconds:g} s"} if wanted else None
        try:
            found: dict[str, Any] = json.loads(said)
        except ValueError:
            return {"refused": "it is damaged, or asks for more memory than there is for it"}
        return found

    async def _start(self) -> asyncio.subprocess.Process:
        limits = self._limits
        numbers = (limits.pdf_pages, limits.document_bytes, int(limits.pdf_seconds) + 1, _MEMORY)
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "farthing.server.documents.pdf",
            *map(str, numbers),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Ctrl-C in a terminal reaches every process of the group; this one ends with its request.
            start_new_session=True,
        )
