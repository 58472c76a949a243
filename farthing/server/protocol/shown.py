"""What clients see: updates of a reply as chat chunks, as a whole chat completion, or as text completions."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.thinking import Wish
from farthing.server.protocol.turn import Delta, Entry

_UNLIKELY = -9999.0
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def head(kind: str, model: ServedModel, prefix: str) -> dict[str, Any]:
    """The fields that every chunk of a reply shares."""
    return {
        "id": f"{prefix}-{secrets.token_hex(16)}",
        "object": kind,
        "created": int(time.time()),
        "model": model.name,
        "system_fingerprint": model.fingerprint,
    }


def dumps(value: Any) -> str:
    """JSON on one line. Text stays text; NaN and infinity would be a bug of ours and raise."""
    return _ENCODER.encode(value)


def frame(value: Any) -> bytes:
    """One server-sent event."""
    return f"data: {dumps(value)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


@dataclass
class ChatView:
    """One choice's message, delta by delta: where thinking goes, and what calls are named."""

    model: ServedModel
    wish: Wish
    with_entries: bool
    message: dict[str, Any] = field(default_factory=lambda: {"role": "assistant", "content": ""})
    entries: list[dict[str, Any]] = field(default_factory=list)
    thinking_entries: list[dict[str, Any]] = field(default_factory=list)
    _in_tags: bool = False

    def fields(self, delta: Delta) -> dict[str, Any]:
        """The `delta` of a chunk; empty where nothing of it is shown."""
        out: dict[str, Any] = {}
        if delta.thinking and self.wish.shown:
            if self.wish.separate:
                out["reasoning_content"] = out["reasoning"] = delta.thinking
            else:
                out["content"] = delta.thinking if self._in_tags else f"<think>\n{delta.thinking}"
                self._in_tags = True
        elif delta.content:
            out["content"] = f"\n</think>\n\n{delta.content}" if self._in_tags else delta.content
            self._in_tags = False
        if delta.calls:
            out["tool_calls"] = [
                self._call(piece.index, piece.name, piece.arguments) for piece in delta.calls
            ]
        return out

    def _call(self, index: int, name: str | None, arguments: str) -> dict[str, Any]:
        if name is None:
            return {"index": index, "function": {"arguments": arguments}}
        function = {"name": name, "arguments": arguments}
        return {
            "index": index,
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": function,
        }

    def logprobs(self, delta: Delta) -> dict[str, Any] | None:
        """The `logprobs` of a chunk. Thinking has its own list: `content` describes the content."""
        if not self.with_entries:
            return None
        return {
            "content": [chat_entry(self.model, entry) for entry in delta.entries],
            "refusal": None,
            "reasoning": [chat_entry(self.model, entry) for entry in delta.thinking_entries],
        }

    def add(self, delta: Delta) -> None:
        """Gather a delta into the whole message."""
        for key, value in self.fields(delta).items():
            if key == "tool_calls":
                for piece in value:
                    self._gather(piece)
            else:
                self.message[key] = self.message.get(key, "") + value
        if self.with_entries:
            self.entries += [chat_entry(self.model, entry) for entry in delta.entries]
            self.thinking_entries += [chat_entry(self.model, entry) for entry in delta.thinking_entries]

    def _gather(self, piece: dict[str, Any]) -> None:
        calls = self.message.setdefault("tool_calls", [])
        if "id" in piece:
            calls.append({key: value for key, value in piece.items() if key != "index"})
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]

    def choice(self, index: int, finish: str) -> dict[str, Any]:
        """The choice of a reply that was waited for."""
        message = {"role": "assistant", "content": self.message["content"], "refusal": None, **self.message}
        if not message["content"] and message.get("tool_calls"):
            message["content"] = None
        logprobs = None
        if self.with_entries:
            logprobs = {"content": self.entries, "refusal": None, "reasoning": self.thinking_entries}
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def chat_entry(model: ServedModel, entry: Entry) -> dict[str, Any]:
    """One token's log-probabilities: of the raw model, before temperature and everything else."""
    best = [_token(model, token, logprob) for token, logprob in entry.top]
    return {**_token(model, entry.token_id, entry.logprob), "top_logprobs": best}


def _token(model: ServedModel, token_id: int, logprob: float) -> dict[str, Any]:
    raw = token_bytes(model, token_id)
    return {"token": raw.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(raw)}


def token_bytes(model: ServedModel, token_id: int) -> bytes:
    """What a token adds to the text; half a character where it is half a character."""
    return model.tokenizer.token_bytes(token_id)


def finite(logprob: float) -> float:
    """A log-probability that JSON can hold."""
    return round(logprob, 6) if math.isfinite(logprob) and logprob > _UNLIKELY else _UNLIKELY


def text_logprobs(model: ServedModel, entries: Iterable[Entry], start: int = 0) -> dict[str, Any]:
    """The `logprobs` of a text completion; a prompt's first token has none (NaN in `Entry` becomes null)."""
    tokens: list[str] = []
    logprobs: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    offsets: list[int] = []
    for entry in entries:
        text = token_text(model, entry.token_id)
        tokens.append(text)
        offsets.append(start)
        start += len(text)
        first = math.isnan(entry.logprob)
        logprobs.append(None if first else finite(entry.logprob))
        tops.append(None if first else _top(model, entry.top))
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


def _top(model: ServedModel, top: Sequence[Sequence[Any]]) -> dict[str, float]:
    out: dict[str, float] = {}
    for token, logprob in top:
        out.setdefault(token_text(model, token), finite(logprob))
    return out


def token_text(model: ServedModel, token_id: int) -> str:
    """A token by its text, or by its bytes where they are no text by themselves."""
    raw = token_bytes(model, token_id)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
