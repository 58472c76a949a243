"""How much fits: conversations of what length, how many at once. Plain arithmetic, for the start and for its words."""

from __future__ import annotations

from dataclasses import dataclass

from farthing.errors import UserError

_MOST_RUNNING = 32
_SHORTEST_CONTEXT = 256
# Context is given up for room until so many conversations fit, but not below what most conversations need.
_PEOPLE = 8
_LONG = 8192


@dataclass(frozen=True)
class Fit:
    """`slots` conversations of `context` tokens fit into `cache_bytes`; `running` of them can be written at once, the
    others are finished ones, kept because their next turn begins where they end."""

    context: int
    slots: int
    running: int
    cache_bytes: int


def fit(*, context: int, token_bytes: int, memory: int, running: int | None = None) -> Fit:
    """The fit of `memory` bytes of keys and values, `token_bytes` a token.

    Every slot is as long as the longest conversation, so it is paid for in full. A long context is shortened where
    only few such conversations fit, and the caller says so. Raises UserError where that would leave nothing useful.
    """
    affordable = memory // token_bytes
    if affordable < min(context, _SHORTEST_CONTEXT):
        raise UserError(
            f"{memory >> 20} MiB for keys and values are {affordable} tokens, too few for one conversation: "
            "free some memory, or serve a smaller model"
        )
    if affordable < _PEOPLE * context:
        shorter = min(max(affordable // _PEOPLE, _LONG), affordable)
        context = min(context, max(shorter // 64 * 64, _SHORTEST_CONTEXT))
    slots = max(1, affordable // context)
    most = max(1, slots * 3 // 4)
    chosen = min(running or _MOST_RUNNING, most)
    slots = min(slots, 2 * chosen + 8)
    return Fit(context, slots, chosen, slots * context * token_bytes)
