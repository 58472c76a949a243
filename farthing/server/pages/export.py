"""A conversation as a file to keep: JSON with everything, or Markdown to read."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from urllib.parse import quote

from starlette.responses import Response

from farthing.server.documents.passages import PAGE_BREAK
from farthing.server.documents.verification import DOUBTFUL
from farthing.server.pages.history import Record

_SPEAKERS = {"user": "You", "assistant": "Model"}


def as_json(conversation: Record) -> str:
    """Every branch, every number."""
    return json.dumps({"format": 1, **conversation}, ensure_ascii=False, indent=1)


def as_markdown(conversation: Record) -> str:
    """The branch that is looked at, and at its end the replies that stand side by side; thinking as a quotation, so
    that nothing in it can be taken for the answer."""
    by_id = {message["id"]: message for message in conversation["messages"]}
    lines = [f"# {conversation['title'] or 'Conversation'}", ""]
    created = datetime.fromtimestamp(conversation["created"], UTC)
    lines += [f"{created:%Y-%m-%d %H:%M} UTC", ""]
    at, path = conversation["leaf"], []
    while at is not None:
        path.append(by_id[at])
        at = by_id[at]["parent"]
    for message in [*reversed(path), *_side_by_side(conversation)]:
        name = _SPEAKERS[message["role"]]
        model = message["details"].get("model")
        lines += [f"## {name}" + (f" ({model})" if model else ""), ""]
        if message["thinking"]:
            lines += [*(f"> {line}".rstrip() for line in message["thinking"].splitlines()), ""]
        lines += [message["content"], "", *_sources(message["details"])]
    return "\n".join(lines)


def _side_by_side(conversation: Record) -> list[Record]:
    """The newest reply of each model to the message that is looked at, none of which was chosen to go on with."""
    below = (one for one in conversation["messages"] if one["parent"] == conversation["leaf"])
    newest = {
        one["details"]["model"]: one
        for one in below
        if one["details"].get("model") and not one["details"].get("edited")
    }
    return list(newest.values())


def _sources(details: Record) -> list[str]:
    """The passages a reply was given, and what became of its citations."""
    lines = [
        line
        for number, source in enumerate(details.get("sources", ()), 1)
        for line in (f"> [{number}] {_place(source)}: {' '.join(source['text'].split())}", ">")
    ][:-1]
    doubts = [f"- {mark['why']}" for mark in details.get("marks", ()) if mark["kind"] in DOUBTFUL]
    lines += ["", "Citations that do not hold:", "", *doubts] if doubts else []
    return [*lines, ""] if lines else []


def _place(source: Record) -> str:
    """The title of a passage's document, and the page or the pages where there are any."""
    title, first = str(source["title"]), source.get("page")
    if first is None:
        return title
    last = first + source["text"].count(PAGE_BREAK)
    return f"{title}, page {first}" if first == last else f"{title}, pages {first}–{last}"


def attachment(conversation: Record, text: str, ending: str) -> Response:
    """A file named after the conversation; never shown by the browser itself."""
    name = re.sub(r"[^\w-]+", "-", conversation["title"]).strip("-")[:60] or "conversation"
    kind = {"json": "application/json", "md": "text/markdown"}[ending]
    return Response(
        text.encode("utf-8", "replace"),
        media_type=f"{kind}; charset=utf-8",
        headers={"content-disposition": f"attachment; filename*=UTF-8''{quote(name)}.{ending}"},
    )
