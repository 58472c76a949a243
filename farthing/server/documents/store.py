"""Documents in the history's file: added, listed, renamed, removed, searched. These run in the history's thread:

    await history.do(add, title, text)

A document's text never changes, so offsets in it and quotations of it stay true.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from farthing.server.documents.passages import PAGE_BREAK, Passage, split
from farthing.server.documents.words import is_unspaced, words
from farthing.server.pages.history import Absent, History, Record
from farthing.server.protocol.errors import invalid

_MOST_TERMS = 64
_SHOWN = "select id, title, created, bytes, (select count(*) from passages where document = id) passages from documents"


@dataclass(frozen=True)
class Source:
    """A passage as it is quoted to the model: kept with the reply, so that the reply can be read without the document.

    `document`: the document's id; `start` and `stop`: where the text stands in it, in characters; `page`: where it
    begins, from 1, in a document that has pages.
    """

    document: str
    title: str
    start: int
    stop: int
    text: str
    page: int | None = None

    def record(self) -> Record:
        return {name: value for name, value in asdict(self).items() if value is not None}


def add(history: History, title: str, text: str, most: int) -> Record:
    """A new document, split and indexed. Raises ApiError where `most` documents are here already."""
    (there,) = history.db.execute("select count(*) from documents").fetchone()
    if there >= most:
        raise invalid(
            f"there are {there} documents, as many as are kept: delete one",
            code="too_many_documents",
        )
    name, size = secrets.token_hex(16), len(text.encode())
    history.db.execute("insert into documents values (?, ?, ?, ?, ?)", (name, title, time.time(), size, text))
    for passage in split(text):
        number = history.db.execute(
            "insert into passages (document, start, stop) values (?, ?, ?)", (name, *passage)
        ).lastrowid
        body = " ".join(words(text[passage.start : passage.stop]))
        history.db.execute("insert into passage_words (rowid, words) values (?, ?)", (number, body))
    return shown(history, name)


def listed(history: History) -> list[Record]:
    """Every document without its text, the newest first."""
    return [dict(row) for row in history.db.execute(f"{_SHOWN} order by created desc, rowid desc")]


def shown(history: History, name: str) -> Record:
    """A document without its text. Raises Absent."""
    row = history.db.execute(f"{_SHOWN} where id = ?", (name,)).fetchone()
    if row is None:
        raise Absent("there is no such document")
    return dict(row)


def whole(history: History, name: str) -> Record:
    """A document with its text. Raises Absent."""
    row = history.db.execute("select text from documents where id = ?", (name,)).fetchone()
    return shown(history, name) | {"text": row["text"] if row else ""}


def rename(history: History, name: str, title: str) -> Record:
    """Raises Absent."""
    history.db.execute("update documents set title = ? where id = ?", (title, name))
    return shown(history, name)


def remove(history: History, name: str) -> None:
    """Forget a document; replies keep the passages they were given. Raises Absent."""
    if not history.db.execute("delete from documents where id = ?", (name,)).rowcount:
        raise Absent("there is no such document")


def known(history: History, documents: Sequence[str]) -> list[str]:
    """Those of `documents` that are here; what was deleted, or is on another machine, is left out."""
    here = {row["id"] for row in history.db.execute("select id from documents")}
    return [name for name in dict.fromkeys(documents) if name in here]


def search(history: History, documents: Sequence[str], question: str, most: int) -> list[Source]:
    """At most `most` passages of these documents that share words with `question`, the best first by BM25."""
    wanted = match_of(question)
    if not wanted:
        return []
    rows = history.db.execute(
        "select document, start, stop from passage_words join passages on number = passage_words.rowid"
        f" where passage_words match ? and document in ({_places(documents)})"
        " order by bm25(passage_words), number limit ?",
        (wanted, *documents, most),
    )
    return _sources(history, rows.fetchall())


def beginning(history: History, documents: Sequence[str], most: int) -> list[Source]:
    """The first passages of these documents, one document after the other."""
    rows = history.db.execute(
        "select document, passages.start, passages.stop from passages join documents on id = document"
        f" where document in ({_places(documents)}) order by created, id, start limit ?",
        (*documents, most),
    )
    return _sources(history, rows.fetchall())


def match_of(question: str) -> str:
    """An FTS5 expression that matches what holds any word of `question`; empty where it has none.

    Each word is a quoted string, in which nothing means anything to FTS5; of a character that stands alone, every pair
    that begins with it.
    """
    terms = list(dict.fromkeys(words(question)))[:_MOST_TERMS]
    return " OR ".join(f'"{term}"' + ("*" if len(term) == 1 and is_unspaced(term) else "") for term in terms)


def _places(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _sources(history: History, rows: Sequence[Any]) -> list[Source]:
    found = {}
    for name in {row["document"] for row in rows}:
        found[name] = history.db.execute("select title, text from documents where id = ?", (name,)).fetchone()
    return [
        _source(row["document"], found[row["document"]], Passage(row["start"], row["stop"])) for row in rows
    ]


def _source(name: str, document: Any, passage: Passage) -> Source:
    title, text = document["title"], document["text"]
    page = text.count(PAGE_BREAK, 0, passage.start) + 1 if PAGE_BREAK in text else None
    return Source(name, title, *passage, text[passage.start : passage.stop], page)
