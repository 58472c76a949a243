"""Replies of the chat page: the server writes them to their end, whoever watches.

A reply belongs to its message, not to a connection: the tab may close, another may open, and whoever asks for the
events of a message from an offset gets everything behind it. Twice a second what has come is kept in the history.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from farthing.server.documents.store import Source
from farthing.server.openai.chat import Asked
from farthing.server.openai.replies import Reply, Update
from farthing.server.pages.history import Absent, History, Record
from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.shown import dumps
from farthing.server.service import Service

Judge = Callable[[str, str, str], Awaitable[Mapping[str, Any]]]
"""From (thinking, content, finish) of a reply that has ended to what is known of it."""

log = logging.getLogger("farthing.server")

_KEEP_SECONDS = 0.5
# Of the details a reply begins with, those that hold to its end.
_CARRIED = frozenset({"edited", "sources"})


class Writing:
    """One reply being written. `pieces`: (field, text) as they came; an offset counts them."""

    def __init__(self, message: Record, asked: Asked, reply: Reply) -> None:
        self.message, self.asked, self.reply = message, asked, reply
        self.pieces: list[tuple[str, str]] = []
        self.changed = asyncio.Event()
        self.over = False
        self.task: asyncio.Task[None] | None = None
        self.judged: Mapping[str, Any] = {}
        self.text = {"thinking": message["thinking"], "content": message["content"]}
        self._before = float(message["details"].get("thinking_seconds", 0.0))
        self._thought_until: float | None = None
        self._kept = time.monotonic()

    def take(self, updates: Sequence[Update]) -> None:
        """What became certain, into the message."""
        for update in updates:
            for name, text in (("thinking", update.delta.thinking), ("content", update.delta.content)):
                if text:
                    self.pieces.append((name, text))
                    self.text[name] += text
        if self.text["content"]:
            self.stop_clock()
        self.notify()

    def stop_clock(self) -> None:
        """The thought is over."""
        self._thought_until = self._thought_until or time.monotonic()

    def notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def is_due(self) -> bool:
        """Whether it is time to keep what has come."""
        due = time.monotonic() - self._kept > _KEEP_SECONDS
        self._kept = time.monotonic() if due else self._kept
        return due

    @property
    def state(self) -> str:
        """ "loading" the model, "waiting" for a first token, "thinking" or "answering"."""
        choice = self.reply.choices[0]
        if not choice.tokens:
            return "waiting" if self.reply.service.is_loaded(choice.job.model) else "loading"
        return "thinking" if choice.parser.region == "thinking" else "answering"

    def details(self) -> Record:
        """The numbers beside the text, as far as they are known."""
        choice, usage = self.reply.choices[0], self.reply.usage()
        first, now = choice.generation.first_token, time.monotonic()
        out: Record = {
            "model": self.asked.job.model.name,
            "prompt_tokens": usage["prompt_tokens"],
            "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
            "tokens": usage["completion_tokens"],
            "thinking_tokens": usage["completion_tokens_details"]["reasoning_tokens"],
            "context": self.asked.job.model.context,
            "seed": str(self.asked.job.seed),
            **{name: kept for name, kept in self.message["details"].items() if name in _CARRIED},
            **self.judged,
        }
        if self.text["thinking"]:
            out["thinking_seconds"] = self._before + (self._thought_until or now) - self.reply.arrived
        if first is not None:
            out["first_seconds"] = first - self.reply.arrived
            out["tokens_per_second"] = (choice.tokens - 1) / (now - first) if choice.tokens > 1 else None
        if choice.ending.get("thought") not in (None, "itself"):
            out["thought_ended"] = choice.ending["thought"]
        return out

    def shown(self) -> Record:
        """The message as it is now."""
        live = {"state": self.state, "offset": len(self.pieces)}
        return {**self.message, **self.text, "details": self.details(), "live": live}

    def since(self, offset: int) -> Record:
        """One event: everything behind an offset."""
        texts = {
            name: "".join(text for kind, text in self.pieces[offset:] if kind == name)
            for name in ("thinking", "content")
        }
        live = {"state": self.state, "offset": len(self.pieces)}
        details = self.details()
        details.pop("sources", None)  # long, and known since the reply began
        return {**texts, "details": details, "live": live}


class Writers:
    """Every reply of the chat page that is being written."""

    def __init__(self, service: Service, history: History) -> None:
        self._service, self._history = service, history
        self._writing: dict[str, Writing] = {}

    def get(self, name: str) -> Writing | None:
        return self._writing.get(name)

    def shown(self, message: Record) -> Record:
        """A message of the history with what has not been kept yet. One that nobody writes any more was cut off."""
        writing = self._writing.get(message["id"])
        if writing is not None:
            return writing.shown()
        return message if message["finish"] is not None else message | {"finish": "interrupted"}

    async def begin(
        self,
        asked: Asked,
        parent: Record,
        goes_on: Record | None,
        judge: Judge,
        sources: Sequence[Source] = (),
        *,
        beside: bool = False,
    ) -> Record:
        """Have a reply written below `parent`, `beside` others there or as the one looked at; or `goes_on` continued.
        Raises ApiError, and then nothing was begun."""
        reply = Reply(self._service, [asked.job], time.monotonic())
        given: Record = {"sources": [source.record() for source in sources]} if sources else {}
        try:
            if goes_on is None:
                place = (parent["conversation"], parent["id"], "assistant")
                given["model"] = asked.job.model.name  # known even if we die before anything else is
                message = await self._history.do(History.add, *place, details=given, beside=beside)
            else:
                details = goes_on["details"] | given
                kept = (goes_on["id"], goes_on["content"], goes_on["thinking"], None, details)
                message = await self._history.do(History.write, *kept)
        except BaseException:
            reply.close()
            raise
        writing = Writing(message, asked, reply)
        self._writing[message["id"]] = writing
        writing.task = asyncio.create_task(self._write(writing, judge))
        return writing.shown()

    async def _write(self, writing: Writing, judge: Judge) -> None:
        """To the end, whatever it is; then it is in the history, and those who watch are told."""
        finish, more = "stop", {}
        try:
            async for updates in writing.reply.updates():
                writing.take(updates)
                if writing.is_due():
                    await self._keep(writing, None, {})
            finish = writing.reply.choices[0].finish or "stop"
        except asyncio.CancelledError:
            finish = "stopped"
        except Absent:
            finish = "stopped"  # deleted while it was written
        except ApiError as error:
            finish, more = "interrupted", {"error": error.message}
        except Exception:  # a bug costs this reply and has its traceback in the log
            log.exception("a reply failed")
            finish, more = "interrupted", {"error": "internal error"}
        writing.reply.close()
        writing.stop_clock()
        try:
            writing.judged = await _judged(judge, writing.text, finish)
            await self._keep(writing, finish, more)
        except Absent:
            log.debug("a reply was deleted before it ended")
        finally:
            del self._writing[writing.message["id"]]
            writing.over = True
            writing.notify()

    async def _keep(self, writing: Writing, finish: str | None, more: Mapping[str, Any]) -> None:
        now = writing.shown()
        details = now["details"] | more
        await self._history.do(History.write, now["id"], now["content"], now["thinking"], finish, details)

    async def stop(self, name: str) -> None:
        """End a reply where it is; returns when that is in the history. Harmless where it has ended."""
        writing = self._writing.get(name)
        if writing is not None and writing.task is not None:
            writing.task.cancel()
            await asyncio.wait([writing.task])

    def answer_now(self, name: str) -> None:
        """End the thought of a reply; the answer follows. Harmless where none is open."""
        writing = self._writing.get(name)
        if writing is not None:
            writing.reply.choices[0].generation.close_thought()

    async def stop_all(self, conversation: str | None = None) -> None:
        """End every reply, or those of a conversation."""
        names = [
            name for name, writing in self._writing.items()
            if conversation in (None, writing.message["conversation"])
        ]  # fmt: skip
        for name in names:
            await self.stop(name)

    async def events(self, name: str, offset: int) -> AsyncIterator[bytes]:
        """Everything of a message behind `offset` as it comes; the last event holds the whole message."""
        writing = self._writing.get(name)
        while writing is not None and not writing.over:
            changed, news = writing.changed, writing.since(offset)
            offset = len(writing.pieces)
            yield event(news, offset)
            await changed.wait()
        if writing is not None and len(writing.pieces) > offset:
            yield event(writing.since(offset), len(writing.pieces))
            offset = len(writing.pieces)
        try:
            message = await self._history.do(History.message, name)
        except Absent:
            message = {"id": name, "finish": "deleted"}
        yield event({"message": self.shown(message)}, offset)


async def _judged(judge: Judge, text: Mapping[str, str], finish: str) -> Mapping[str, Any]:
    """What is known of a reply that has ended; a bug in finding out, or being stopped there, does not cost it."""
    try:
        return await judge(text["thinking"], text["content"], finish)
    except asyncio.CancelledError:
        return {}
    except Exception:
        log.exception("a reply could not be judged")
        return {}


def event(value: Record, offset: int) -> bytes:
    """One server-sent event; a browser that lost the line comes back with the offset."""
    return f"id: {offset}\ndata: {dumps(value)}\n\n".encode()
