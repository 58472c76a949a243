"""What a chat template may use up: steps of its loops, seconds, characters of output, size of a value.

Templates come with models, so they are other people's programs. jinja2's sandbox keeps them away from Python; it does
not keep them from running for ever or from asking for a string of a billion characters. A meter stands in each loop
and before each operation that can make a value larger than its operands.

Not covered: a single operation of the interpreter is not interrupted; each is bounded by the size of its operands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jinja2


@dataclass(frozen=True)
class Limits:
    """Ample for any conversation that fits a context window; a template that needs more is broken or hostile."""

    steps: int = 1_000_000
    seconds: float = 5.0
    characters: int = 16_000_000
    entries: int = 1_000_000
    bits: int = 4096


class LimitExceeded(jinja2.TemplateError):
    """A template asked for more than it may have."""


class Meter:
    """What one rendering has used up so far."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._steps = 0
        self._deadline = time.monotonic() + limits.seconds

    def tick(self, count: int = 1) -> None:
        """`count` turns of a loop, calls, or entries looked at."""
        before, self._steps = self._steps, self._steps + count
        if self._steps > self.limits.steps:
            raise LimitExceeded(f"it takes more than {self.limits.steps} steps")
        if self._steps // 64 > before // 64 and time.monotonic() > self._deadline:
            raise LimitExceeded(f"it runs for more than {self.limits.seconds} s")


_METER: ContextVar[Meter | None] = ContextVar("farthing_template_meter", default=None)
_STATIC = Limits()  # while a template is compiled, constants are folded under the same limits of size


@contextmanager
def metered(limits: Limits) -> Iterator[Meter]:
    """Let the code within use up `limits`, on this thread."""
    meter = Meter(limits)
    token = _METER.set(meter)
    try:
        yield meter
    finally:
        _METER.reset(token)


def tick(count: int = 1) -> None:
    """Count steps against the meter of this thread."""
    meter = _METER.get()
    if meter is not None:
        meter.tick(count)


def characters(size: int) -> None:
    """Refuse a text of `size` characters if that is too many."""
    limit = _limits().characters
    if size > limit:
        raise LimitExceeded(f"it makes a text of {size} characters; {limit} are allowed")


def entries(size: int) -> None:
    """Refuse a collection of `size` entries if that is too many."""
    limit = _limits().entries
    if size > limit:
        raise LimitExceeded(f"it makes a collection of {size} entries; {limit} are allowed")


def bits(size: int) -> None:
    """Refuse a whole number of `size` bits if that is too many."""
    limit = _limits().bits
    if size > limit:
        raise LimitExceeded(f"it computes with a number of {size} bits; {limit} are allowed")


def weigh(value: Any) -> Any:
    """Return `value`, unless it is a collection that holds too much when written out.

    A list that holds another twice, twenty times over, is small in memory and a million entries as text.
    """
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        stack: list[Any] = [value]
        seen = size = 0
        while stack:
            held = stack.pop()
            seen += 1
            if isinstance(held, str):
                size += len(held)
            elif isinstance(held, Mapping):
                stack.extend(held.keys())
                stack.extend(held.values())
            elif isinstance(held, (list, tuple, set, frozenset)):
                stack.extend(held)
            entries(seen + len(stack))
            characters(size)
        tick(seen)
    return value


def _limits() -> Limits:
    meter = _METER.get()
    return _STATIC if meter is None else meter.limits
