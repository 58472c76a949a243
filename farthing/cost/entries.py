"""The lines of a ledger: what a phase is, and reading them back."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from farthing.errors import FarthingError, RunError
from farthing.runs.files import read_lines

KINDS = ("generate", "score", "train", "evaluate", "checkpoint", "setup", "other")
WASTE = ("dead_groups", "truncated", "repeated")
"""Paid for and taught nothing: groups without signal, samples cut off, work done again after a crash."""


@dataclass
class Entry:
    """One phase. Times in seconds; `start_s` counts from the start of its attempt."""

    attempt: int
    stage: str
    kind: str
    step: int | None = None
    start_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    tokens: int = 0
    flops: float = 0.0
    waste: dict[str, float] = field(default_factory=dict)

    def note(self, waste: str, seconds: float) -> None:
        """Book `seconds` of this phase as wasted (one of WASTE)."""
        if waste not in WASTE:
            raise FarthingError(f'unknown waste "{waste}"; known: {", ".join(WASTE)}')
        self.waste[waste] = self.waste.get(waste, 0.0) + seconds

    @property
    def end_s(self) -> float:
        return self.start_s + self.wall_s


_NAMES = {entry_field.name for entry_field in dataclasses.fields(Entry)}


def read(path: str | Path) -> list[Entry]:
    """Every closed phase, oldest first; a torn last line is left out. Raises RunError on a damaged file."""
    entries = []
    for number, line in enumerate(read_lines(Path(path)), start=1):
        if "started" in line:
            continue
        if not {"attempt", "stage", "kind"} <= set(line) <= _NAMES:
            raise RunError(f"{path}: record {number} is not a line of a ledger")
        entries.append(Entry(**line))
    return entries


def attempt_ends(entries: list[Entry]) -> dict[int, float]:
    """Seconds from its start to its last known moment, by attempt."""
    ends: dict[int, float] = {}
    for entry in entries:
        ends[entry.attempt] = max(ends.get(entry.attempt, 0.0), entry.end_s)
    return ends
