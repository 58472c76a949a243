"""The ledger: where every second, token and floating-point operation of a run went, and what it cost.

ledger.jsonl has one header per attempt, {"attempt", "started" (unix seconds), "cores"}, and one line per
closed phase, {"attempt", "stage", "kind", "step", "start_s", "wall_s", "cpu_s", "tokens", "flops",
"waste": {}}, with start_s counted from the attempt's start. Phases never overlap. Time between two phases is
real and is paid for: it is booked as kind "other" on the stage of the phase that follows it, so that every
total adds up to the wall clock. Of an attempt that was killed, the phase that was open is not known; at most
one step is missing.

Money is core-hours (wall time x cores) x price: a reserved core costs the same busy or idle.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from farthing.cost.entries import KINDS, WASTE, Entry, attempt_ends, read
from farthing.cost.totals import balance, summarize
from farthing.errors import FarthingError
from farthing.runs.files import JsonLines

__all__ = ["KINDS", "WASTE", "Entry", "Ledger", "balance", "read", "summarize"]


class Ledger:
    """The ledger of one attempt. `cores` is what the run occupies, used or not; the price is by core-hour."""

    def __init__(
        self,
        path: str | Path,
        attempt: int,
        cores: float,
        price_per_core_hour: float = 0.0,
        *,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] | None = None,
    ) -> None:
        self.cores = cores
        self.price = price_per_core_hour
        self.attempt = attempt
        self._clock, self._cpu_clock = clock, cpu_clock or cpu_seconds
        self._began = clock()
        self._open: Entry | None = None
        self._last = Entry(attempt, "", "other")
        self._held: list[Entry] = []
        self._earlier_s = sum(attempt_ends(read(path)).values())
        self._file = JsonLines(path)
        self._file.append({"attempt": attempt, "started": round(time.time(), 3), "cores": cores})

    def _now(self) -> float:
        # Whole microseconds: what is written is what is compared; rounding never makes phases overlap.
        return math.floor((self._clock() - self._began) * 1e6) / 1e6

    @contextmanager
    def phase(self, stage: str, kind: str, step: int | None = None, *, held: bool = False) -> Iterator[Entry]:
        """Time a phase; the caller adds `entry.tokens`, `entry.flops` and `entry.note(...)`.

        The entry is written when the block ends, by an exception too: the time was spent. Opening a phase
        inside another is an error. A `held` entry waits for `settle` (or `close`), because what of it was wasted
        shows only later: whether a group teaches anything is known when it has been scored.
        """
        if kind not in KINDS:
            raise FarthingError(f'unknown kind of phase "{kind}"; known: {", ".join(KINDS)}')
        if self._open is not None:
            raise FarthingError(f"phase {stage}/{kind} opened inside {self._open.stage}/{self._open.kind}")
        entry = self._open = Entry(self.attempt, stage, kind, step, start_s=self._now())
        cpu = self._cpu_clock()
        try:
            yield entry
        finally:
            entry.wall_s = round(self._now() - entry.start_s, 6)
            entry.cpu_s = round(max(0.0, self._cpu_clock() - cpu), 6)
            self._open = None
            self._last = entry
            self._held.append(entry)
            if not held:
                self.settle()

    def settle(self) -> None:
        """Write the entries that were held back, in their order."""
        for entry in self._held:
            self._file.append(asdict(entry))
        self._held.clear()

    @property
    def wall_s(self) -> float:
        """Seconds of this run so far, earlier attempts included."""
        return self._earlier_s + self._now()

    @property
    def money(self) -> float:
        """What the run has cost so far, in the recipe's currency."""
        return self.wall_s * self.cores / 3600 * self.price

    def close(self) -> None:
        """Book the time since the last phase and close the file."""
        start, now = self._last.end_s, self._now()
        if now > start:
            wall = round(now - start, 6)
            self._held.append(Entry(self.attempt, self._last.stage, "other", None, round(start, 6), wall))
        self.settle()
        self._file.close()


def cpu_seconds() -> float:
    """Processor seconds of this process and of its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system
