"""Conversations on this machine: a tree of messages each, in one SQLite file that survives whatever happens to us.

    conversation ─▶ message ─▶ message (a branch)
                          └──▶ message (another answer to the same question)

What a method returns has been committed with a sync to the disk (WAL, synchronous=FULL), so it outlives SIGKILL and a
power cut. A message without `finish` is being written, or was when the server that wrote it died: only a server that
is writing it can tell, so nobody has to clean up after the other.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from farthing.errors import UserError
from farthing.server.documents.tables import TABLES
from farthing.server.protocol.errors import ApiError

Record = dict[str, Any]
Given = ParamSpec("Given")
Result = TypeVar("Result")

_SCHEMA = """
create table if not exists conversations (
    id text primary key, title text not null, created real not null, updated real not null,
    leaf text, settings text not null
) strict;
create table if not exists messages (
    id text primary key, conversation text not null references conversations(id) on delete cascade,
    parent text references messages(id) on delete cascade, role text not null, content text not null,
    thinking text not null, created real not null, finish text, details text not null
) strict;
create table if not exists presets (name text primary key, settings text not null) strict;
create index if not exists messages_of on messages(conversation, created);
"""
_VERSION = 1
_BUSY_SECONDS = 10.0
_EXCERPT = 90
_TITLE = 60


class Absent(ApiError):
    """There is no such conversation, message or preset: 404 to who asked."""

    def __init__(self, message: str) -> None:
        super().__init__(404, message, "not_found")


class History:
    """The file, and the one thread that touches it and its `db`: `await history.do(History.listed, "")`."""

    def __init__(self, path: Path | None) -> None:
        """`path`: the file, made where it is missing; None keeps conversations only as long as the server runs.

        Raises UserError for a file that cannot be used.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self.db = self._thread.submit(_open, path).result()

    async def do(
        self, method: Callable[Concatenate[History, Given], Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Run one of the methods below in the thread. What it changed is on the disk when this returns."""

        def work() -> Result:
            with self.db:
                return method(self, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Wait for what is being written, then close the file."""
        self._thread.submit(self.db.close)
        self._thread.shutdown()

    # ---- conversations

    def begin(self, settings: Mapping[str, Any]) -> Record:
        """A new conversation without messages or title."""
        now, name = time.time(), secrets.token_hex(16)
        self.db.execute(
            "insert into conversations values (?, '', ?, ?, null, ?)", (name, now, now, _json(settings))
        )
        return self.conversation(name)

    def listed(self, search: str) -> list[Record]:
        """Conversations with their last change first; of a search those whose title or text holds it, `excerpt`
        shows where."""
        rows = self.db.execute("select * from conversations order by updated desc").fetchall()
        if not search.strip():
            return [_conversation(row) for row in rows]
        wanted = search.strip().casefold()
        found = {
            row["conversation"]: _excerpt(row["content"], wanted)
            for row in self.db.execute(
                "select conversation, content from messages where holds(content, ?) order by created desc",
                (wanted,),
            )
        }
        return [
            _conversation(row) | {"excerpt": found.get(row["id"], "")}
            for row in rows
            if row["id"] in found or wanted in row["title"].casefold()
        ]

    def conversation(self, name: str) -> Record:
        """One conversation with all of its messages, oldest first. Raises Absent."""
        row = self.db.execute("select * from conversations where id = ?", (name,)).fetchone()
        if row is None:
            raise Absent("there is no such conversation")
        messages = self.db.execute(
            "select * from messages where conversation = ? order by created, rowid", (name,)
        )
        return _conversation(row) | {"messages": [_message(message) for message in messages]}

    def change(
        self,
        name: str,
        *,
        title: str | None = None,
        settings: Mapping[str, Any] | None = None,
        leaf: str | None = None,
    ) -> Record:
        """Rename it, keep its settings, or say which branch is looked at. Raises Absent."""
        kept = self.conversation(name)
        if leaf is not None and all(message["id"] != leaf for message in kept["messages"]):
            raise Absent("there is no such message in this conversation")
        self.db.execute(
            "update conversations set title = ?, settings = ?, leaf = ? where id = ?",
            (
                kept["title"] if title is None else title,
                _json(kept["settings"] if settings is None else settings),
                leaf or kept["leaf"],
                name,
            ),
        )
        return self.conversation(name)

    def take_in(
        self,
        title: str,
        created: float,
        settings: Mapping[str, Any],
        messages: Sequence[Record],
        leaf: str,
    ) -> Record:
        """A conversation from elsewhere, as it was there; each message comes after its parent."""
        name = self.begin(settings)["id"]
        rows = [
            (
                *(one["id"], name, one["parent"], one["role"], one["content"], one["thinking"]),
                *(one["created"], one["finish"], _json(one["details"])),
            )
            for one in messages
        ]
        self.db.executemany("insert into messages values (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self.db.execute(
            "update conversations set title = ?, created = ?, leaf = ? where id = ?",
            (title, created, leaf, name),
        )
        return self.conversation(name)

    def remove(self, name: str) -> None:
        """Forget a conversation for good. Raises Absent."""
        if not self.db.execute("delete from conversations where id = ?", (name,)).rowcount:
            raise Absent("there is no such conversation")

    # ---- messages

    def message(self, name: str) -> Record:
        """One message. Raises Absent."""
        row = self.db.execute("select * from messages where id = ?", (name,)).fetchone()
        if row is None:
            raise Absent("there is no such message")
        return _message(row)

    def add(
        self,
        conversation: str,
        parent: str | None,
        role: str,
        content: str = "",
        *,
        thinking: str = "",
        finish: str | None = None,
        details: Mapping[str, Any] | None = None,
        beside: bool = False,
    ) -> Record:
        """A message below `parent` (None: at the top), which becomes the branch that is looked at; `beside` others,
        `parent` does, and all of them are. The first message gives the conversation its title. Raises Absent."""
        if parent is not None and self.message(parent)["conversation"] != conversation:
            raise Absent("there is no such message in this conversation")
        if self.db.execute("select 1 from conversations where id = ?", (conversation,)).fetchone() is None:
            raise Absent("there is no such conversation")
        now, name = time.time(), secrets.token_hex(16)
        self.db.execute(
            "insert into messages values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, conversation, parent, role, content, thinking, now, finish, _json(details or {})),
        )
        self.db.execute(
            "update conversations set leaf = ?, updated = ?, title = iif(title = '', ?, title) where id = ?",
            (parent if beside else name, now, title_of(content), conversation),
        )
        return self.message(name)

    def write(
        self, name: str, content: str, thinking: str, finish: str | None, details: Mapping[str, Any]
    ) -> Record:
        """What a reply has come to; `finish` None while it goes on. Raises Absent if it was deleted meanwhile."""
        self.db.execute(
            "update messages set content = ?, thinking = ?, finish = ?, details = ? where id = ?",
            (content, thinking, finish, _json(details), name),
        )
        return self.message(name)

    # ---- presets

    def presets(self) -> list[Record]:
        """Every preset, by name."""
        rows = self.db.execute("select * from presets order by name")
        return [{"name": row["name"], "settings": json.loads(row["settings"])} for row in rows]

    def keep_preset(self, name: str, settings: Mapping[str, Any]) -> None:
        """Settings under a name, in place of those that had it."""
        self.db.execute("insert or replace into presets values (?, ?)", (name, _json(settings)))

    def drop_preset(self, name: str) -> None:
        """Forget a preset. Raises Absent."""
        if not self.db.execute("delete from presets where name = ?", (name,)).rowcount:
            raise Absent("there is no such preset")


def _open(path: Path | None) -> sqlite3.Connection:
    """The file with its tables. Raises UserError."""
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
        db = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS)
        db.row_factory = sqlite3.Row
        db.create_function("holds", 2, lambda text, wanted: wanted in text.casefold(), deterministic=True)
        version = db.execute("pragma user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise UserError(
                f"{path}: written by another version of farthing (form {version}, ours is {_VERSION}); "
                "name another file: --conversations FILE"
            )
        for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = on"):
            db.execute(f"pragma {pragma}")
        db.executescript(f"{_SCHEMA} {TABLES} pragma user_version = {_VERSION};")
    except (OSError, sqlite3.Error) as problem:
        raise UserError(
            f"{path}: cannot hold conversations: {problem}; name another file: --conversations FILE"
        ) from None
    return db


def title_of(content: str) -> str:
    """The first words of a message: no model is kept busy with making up titles."""
    line = " ".join(content.split())
    if len(line) <= _TITLE:
        return line
    return line[:_TITLE].rsplit(" ", 1)[0] + "…"


def _excerpt(text: str, wanted: str) -> str:
    """The surroundings of what was searched for. Folding case may change lengths, so the place is a good guess."""
    line = " ".join(text.split())
    start = max(0, line.casefold().find(wanted) - _EXCERPT // 3)
    return ("…" if start else "") + line[start : start + _EXCERPT]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, allow_nan=False)


def _conversation(row: sqlite3.Row) -> Record:
    return {**dict(row), "settings": json.loads(row["settings"])}


def _message(row: sqlite3.Row) -> Record:
    return {**dict(row), "details": json.loads(row["details"])}
