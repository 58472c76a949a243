"""Tokens between the engine and the web process: they travel together where many replies are written at once.

Every time that the web process wakes, it and the clients it writes to take the processor from the engine, for each
reply anew and however many tokens it gets. So a token is held for as much longer as more replies are being written: for
one reply not at all, and never so long that anybody sees it.
"""

from __future__ import annotations

from typing import Any

Row = list[Any]
SECONDS_EACH = 0.008
"""Long beside what it costs both processes when something of a reply goes out (docs/serving.md, under load)."""
LONGEST_SECONDS = 0.125


class Bundle:
    """The tokens of one engine that are held, as rows of the wire: [request, token, log-probability, what else]."""

    def __init__(self) -> None:
        self._held: list[Row] = []
        self._sent = 0.0

    def due(self, rows: list[Row], replies: int, now: float) -> list[Row]:
        """Take what a step has drawn, with so many `replies` being written; what is to go out now, in order.

        The first token of a reply and its last go at once, with what is held of that reply.
        """
        self._held += rows
        wait = min(SECONDS_EACH * replies, LONGEST_SECONDS) if replies > 1 else 0.0
        if now - self._sent >= wait:
            self._sent = now
            return self.all()
        urgent = {row[0] for row in rows if len(row) > 3 and ("prefill" in row[3] or "end" in row[3])}
        if not urgent:
            return []
        going = [row for row in self._held if row[0] in urgent]
        self._held = [row for row in self._held if row[0] not in urgent]
        return going

    def all(self) -> list[Row]:
        """Everything that is held, for when the engine turns to longer work."""
        held, self._held = self._held, []
        return held
