"""What the server says when it is ready: what it serves, how long, how fast, to how many, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from farthing.server.protocol.models import ServedModel

_ATTENTIVE = 5.0
"""Tokens per second that one can read along with."""


def address(host: str, port: int) -> str:
    """Where to point a browser or a client."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def greeting(models: Sequence[ServedModel], url: str, why: str, in_turns: bool = False) -> str:
    """Several lines of plain words."""
    lines = [f"farthing: ready at {url}/v1 (OpenAI API)"]
    for model in models:
        about = _about(model, why) if model.number == 0 else _later(model)
        lines += [f"  {label:<9}{words}" for label, words in about]
    if in_turns:
        lines.append(
            "  memory is too small for all of them at once: they take turns, one is unloaded for another"
        )
    return "\n".join(lines)


def _later(model: ServedModel) -> list[tuple[str, str]]:
    """One that is loaded at its first request."""
    facts = model.facts
    words = (
        f"{model.name}, {count(facts['parameters'])} parameters, {facts['dtype']}, context {facts['context']}"
    )
    return [
        ("model", f"{words}: loaded at its first request, about {size(facts['weight_bytes'])} of weights")
    ]


def _about(model: ServedModel, why: str) -> list[tuple[str, str]]:
    facts = model.facts
    context, full = facts["context"], facts["full_context"]
    short = "" if context >= full else f" of {full}: more would not fit into memory"
    task = (model.card.get("task") or {}).get("name")
    out = [
        (
            "model",
            f"{model.name}, {count(facts['parameters'])} parameters, {facts['dtype']}"
            + (f", knows {task}" if task else ""),
        ),
        ("context", f"{context} tokens{short}"),
        (
            "memory",
            f"{size(facts['weight_bytes'])} with the weights, up to {size(facts['cache_bytes'])} for conversations",
        ),
        ("threads", f"{facts['threads']}: {why}"),
    ]
    return [*out, ("speed", _speed(facts))] if facts["speed"] else out


def _speed(facts: dict[str, Any]) -> str:
    """How many people can talk at once, and how fast each of them is answered."""
    speed = facts["speed"]
    decode = {
        int(name.removeprefix("decode_")): rate for name, rate in speed.items() if name.startswith("decode")
    }
    alone, (many, each) = decode[1], max(decode.items())
    first = 1000 * 128 / speed["prefill"]
    words = f"alone {rate(alone)}, first word of an answer to 128 tokens after {max(first, 1):.0f} ms"
    if many > 1:
        words += f"; {many} people at once {rate(each)} each"
    room = facts["running"]
    comfortable = max(people for people, pace in decode.items() if pace >= min(_ATTENTIVE, alone))
    words += f"; written at once are at most {room} replies, others wait"
    return words + ("" if comfortable > 1 or room == 1 else "; this machine keeps up with about one person")


def rate(tokens: float) -> str:
    return f"{tokens:.0f} tokens/s" if tokens >= 10 else f"{tokens:.1f} tokens/s"


def count(number: int) -> str:
    """26016 -> 26.0 thousand; 1.7e9 -> 1.7 billion."""
    for unit, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return str(number)


def size(number: int) -> str:
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{max(number >> 20, 1)} MiB"
