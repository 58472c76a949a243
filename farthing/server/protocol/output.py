"""What clients of POST /v1/responses see: updates of a reply as items of an output, and as events that tell of them.

A reply that was waited for is put together by the same steps as a streamed one, so both say the same.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from farthing.server.protocol.calls import CallDelta
from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.shown import chat_entry, dumps
from farthing.server.protocol.turn import Delta, Entry

Event = dict[str, Any]


class _Kind(NamedTuple):
    """How an item of a type is written: the prefix of its id, its one content part, the name of its deltas."""

    prefix: str
    part: dict[str, Any]
    deltas: str
    more: dict[str, Any]


_KINDS = {
    "reasoning": _Kind("rs", {"type": "reasoning_text"}, "response.reasoning_text", {"summary": []}),
    "message": _Kind(
        "msg",
        {"type": "output_text", "annotations": [], "logprobs": []},
        "response.output_text",
        {"role": "assistant"},
    ),
}


@dataclass
class _Item:
    """An item of the output. `texts` and `logprobs`: what was written of it so far."""

    index: int
    body: dict[str, Any]
    texts: list[str]
    logprobs: list[dict[str, Any]]

    @property
    def type(self) -> str:
        return str(self.body["type"])

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.body["id"], "output_index": self.index}

    def part(self) -> dict[str, Any]:
        """The content part as it stands."""
        part = _KINDS[self.type].part | {"text": "".join(self.texts)}
        return part | {"logprobs": list(self.logprobs)} if "logprobs" in part else part


class ResponseView:
    """One response, update by update. `told`: the fields of it that are known from the beginning."""

    def __init__(self, model: ServedModel, told: dict[str, Any], *, shown: bool, with_logprobs: bool) -> None:
        self._model, self._shown, self._with_logprobs = model, shown, with_logprobs
        self._events = 0
        self._items: list[dict[str, Any]] = []
        self._open: _Item | None = None
        self._response = told | {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": model.name,
            "system_fingerprint": model.fingerprint,
            "usage": None,
        }

    def response(self) -> dict[str, Any]:
        """The response as it stands."""
        return self._response | {"output": list(self._items)}

    def begin(self) -> list[Event]:
        """The events before anything is written."""
        return [self._whole("response.created"), self._whole("response.in_progress")]

    def add(self, delta: Delta) -> list[Event]:
        """The events of what one region of the turn wrote."""
        if delta.thinking and self._shown:
            return self._write("reasoning", delta.thinking, ())
        if delta.content:
            return self._say(delta.content, delta.entries)
        return [event for piece in delta.calls for event in self._call(piece)]

    def finish(self, reason: str, usage: dict[str, Any]) -> list[Event]:
        """The last events, for a chat completion's `finish_reason` and `usage`."""
        cut = reason == "length"
        out = self._close("incomplete" if cut else "completed")
        if not cut and not any(item["type"] in ("message", "function_call") for item in self._items):
            out += [*self._begin("message"), *self._close("completed")]  # the answer is there and empty
        self._response |= {
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "completed_at": None if cut else int(time.time()),
            "usage": _usage(usage),
        }
        return [*out, self._whole("response.incomplete" if cut else "response.completed")]

    def fail(self, error: ApiError) -> list[Event]:
        """The last events of a response that could not be written to its end."""
        code = {400: "invalid_prompt", 429: "rate_limit_exceeded"}.get(error.status, "server_error")
        out = self._close("incomplete")
        self._response |= {"status": "failed", "error": {"code": code, "message": error.message}}
        return [*out, self._whole("response.failed")]

    # ---- items

    def _say(self, text: str, entries: Sequence[Entry]) -> list[Event]:
        if self._open is not None and self._open.type == "function_call":
            text = text.lstrip()  # between calls
        return self._write("message", text, entries) if text else []

    def _write(self, kind: str, text: str, entries: Sequence[Entry]) -> list[Event]:
        out = []
        if self._open is None or self._open.type != kind:
            out = [*self._close("completed"), *self._begin(kind)]
        item = self._open
        assert item is not None
        item.texts.append(text)
        fields: dict[str, Any] = {"content_index": 0, "delta": text}
        if kind == "message":
            found = [chat_entry(self._model, entry) for entry in entries] if self._with_logprobs else []
            item.logprobs += found
            fields["logprobs"] = found
        return [*out, self._event(f"{_KINDS[kind].deltas}.delta", item.place | fields)]

    def _call(self, piece: CallDelta) -> list[Event]:
        out: list[Event] = []
        if piece.name is not None:
            out = self._close("completed")
            name = {"call_id": f"call_{secrets.token_hex(12)}", "name": piece.name, "arguments": ""}
            out += self._place("function_call", "fc", name)
        if not piece.arguments or self._open is None:
            return out
        self._open.texts.append(piece.arguments)
        delta = self._open.place | {"delta": piece.arguments}
        return [*out, self._event("response.function_call_arguments.delta", delta)]

    def _begin(self, kind: str) -> list[Event]:
        """A message or a thought, with nothing in it."""
        out = self._place(kind, _KINDS[kind].prefix, _KINDS[kind].more | {"content": []})
        assert self._open is not None
        part = self._open.place | {"content_index": 0, "part": self._open.part()}
        return [*out, self._event("response.content_part.added", part)]

    def _place(self, kind: str, prefix: str, more: dict[str, Any]) -> list[Event]:
        body = {"id": f"{prefix}_{secrets.token_hex(24)}", "type": kind, "status": "in_progress"} | more
        self._open = _Item(len(self._items), body, [], [])
        added = {"output_index": self._open.index, "item": body}
        return [self._event("response.output_item.added", added)]

    def _close(self, status: str) -> list[Event]:
        """The end of the item that is being written, if one is."""
        item, self._open = self._open, None
        if item is None:
            return []
        out = []
        if item.type == "function_call":
            done = {"arguments": "".join(item.texts)}
            body = item.body | done | {"status": status}
            named = item.place | {"name": item.body["name"]} | done
            out.append(self._event("response.function_call_arguments.done", named))
        else:
            part = item.part()
            body = item.body | {"content": [part], "status": status}
            place = item.place | {"content_index": 0}
            done = {key: part[key] for key in ("text", "logprobs") if key in part}
            out.append(self._event(f"{_KINDS[item.type].deltas}.done", place | done))
            out.append(self._event("response.content_part.done", place | {"part": part}))
        self._items.append(body)
        return [*out, self._event("response.output_item.done", {"output_index": item.index, "item": body})]

    # ---- events

    def _whole(self, kind: str) -> Event:
        return self._event(kind, {"response": self.response()})

    def _event(self, kind: str, fields: dict[str, Any]) -> Event:
        self._events += 1
        return {"type": kind, "sequence_number": self._events - 1} | fields


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage of a chat completion in the words of this API; nobody is billed for what enters the cache."""
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
    }


def frames_of(events: Iterable[Event]) -> bytes:
    """Server-sent events, each under its name."""
    return "".join(f"event: {event['type']}\ndata: {dumps(event)}\n\n" for event in events).encode()
