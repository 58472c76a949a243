"""A conversation that was exported as JSON, taken in again: checked field by field, every message under a new name."""

from __future__ import annotations

import secrets
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from farthing.server.documents.asking import marked
from farthing.server.documents.passages import MOST
from farthing.server.documents.store import Source
from farthing.server.pages.history import Record
from farthing.server.protocol.errors import invalid

_LONGEST_PASSAGE = 4 * MOST
_MOST_SOURCES = 256


class Kept(BaseModel):
    """Part of an exported file. What is not named here is left out; what is named must be of its kind."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, protected_namespaces=())


class KeptSource(Kept):
    """A passage that a reply was given."""

    document: str = Field(pattern="^[0-9a-f]{32}$")
    title: str = Field(max_length=200)
    start: int = Field(ge=0, le=2**31)
    stop: int = Field(ge=0, le=2**31)
    text: str = Field(max_length=_LONGEST_PASSAGE)
    page: int | None = Field(None, ge=1, le=2**31)


class KeptDetails(Kept):
    """The numbers beside a message, as far as the page knows them."""

    model: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    tokens: int | None = None
    thinking_tokens: int | None = None
    thinking_seconds: float | None = None
    first_seconds: float | None = None
    tokens_per_second: float | None = None
    context: int | None = None
    seed: str | None = None
    thought_ended: Literal["budget", "loop", "asked"] | None = None
    verdict: Literal["right", "wrong", "unscored"] | None = None
    edited: bool | None = None
    error: str | None = None
    sources: list[KeptSource] | None = Field(None, max_length=_MOST_SOURCES)


class KeptMessage(Kept):
    id: str
    parent: str | None
    role: Literal["user", "assistant"]
    content: str
    thinking: str = ""
    created: float
    finish: Literal["stop", "length", "stopped", "interrupted", "tool_calls"] | None = None
    details: KeptDetails = Field(default_factory=lambda: KeptDetails.model_validate({}))


class KeptConversation(Kept):
    """The file. `format`: what this version of farthing writes."""

    format: Literal[1]
    title: str = Field(max_length=200)
    created: float
    leaf: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    messages: list[KeptMessage] = Field(min_length=1)


def _details(message: KeptMessage) -> Record:
    """What was known of a message. Citations are verified anew: a file may say anything."""
    details = message.details.model_dump(exclude_none=True)
    return details | marked(message.content, [Source(**source) for source in details.get("sources", ())])


def renamed(kept: KeptConversation) -> tuple[list[Record], str]:
    """(messages for the history, the one that is looked at), under names that nobody has used.

    Raises ApiError 400 where a message answers one that does not stand before it.
    """
    names: dict[str, str] = {}
    messages: list[Record] = []
    for message in kept.messages:
        if message.id in names:
            raise invalid("messages: two of them have the same id", "messages")
        if message.parent is not None and message.parent not in names:
            raise invalid("messages: each must come after the one it answers", "messages")
        names[message.id] = secrets.token_hex(16)
        messages.append(
            message.model_dump(include={"role", "content", "thinking", "created"})
            | {
                "id": names[message.id],
                "parent": None if message.parent is None else names[message.parent],
                "finish": message.finish or "interrupted",
                "details": _details(message),
            }
        )
    return messages, names.get(kept.leaf or "", names[kept.messages[-1].id])
