"""Adding up a ledger: totals by stage and by kind, waste, and the proof that it balances."""

import math
from collections.abc import Iterable
from typing import Any

from farthing.cost.entries import KINDS, WASTE, Entry, attempt_ends
from farthing.errors import FarthingError

_TOLERANCE_S = 1e-6  # times are written in whole microseconds
RECENT_STEPS = 20
JOULES_PER_KWH = 3.6e6
_FIELDS = ("wall_s", "cpu_s", "tokens", "flops")


def with_gaps(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in order of time, with the time between them as entries of kind "other"."""
    filled: list[Entry] = []
    ends: dict[int, float] = {}
    for entry in sorted(entries, key=lambda item: (item.attempt, item.start_s)):
        end = ends.get(entry.attempt, 0.0)
        if entry.start_s > end:
            filled.append(Entry(entry.attempt, entry.stage, "other", None, end, entry.start_s - end))
        filled.append(entry)
        ends[entry.attempt] = max(end, entry.end_s)
    return filled


def summarize(
    entries: Iterable[Entry],
    cores: float,
    price: float,
    peak_flops: float | None = None,
    watts: float = 0.0,
) -> dict[str, Any]:
    """The totals of a run, every attempt included, as JSON values.

    {"wall_s", "cpu_s", "tokens", "flops", "money", "energy_kwh", "attempts", "by_stage": {..}, "by_kind": {..},
    "waste": {kind: {"wall_s", "money"}}, "other_s"}; each row of by_stage and by_kind has the six totals
    too. Money is wall_s x cores / 3600 x `price`; energy is estimated as cpu_s x `watts`.
    With `peak_flops` (FLOP/s, measured) there is also "mfu".
    """
    recorded = list(entries)
    every = with_gaps(recorded)
    rate = cores / 3600 * price
    total = _row(every, rate, watts)
    result: dict[str, Any] = {**total, "attempts": len({entry.attempt for entry in every})}
    result["by_stage"] = {stage: _row(rows, rate, watts) for stage, rows in _grouped(every, "stage").items()}
    result["by_kind"] = {kind: _row(rows, rate, watts) for kind, rows in _grouped(every, "kind").items()}
    waste = _waste(recorded)
    result["waste"] = {kind: {"wall_s": waste[kind], "money": waste[kind] * rate} for kind in WASTE}
    result["other_s"] = result["by_kind"].get("other", {"wall_s": 0.0})["wall_s"]
    if peak_flops:
        result["mfu"] = total["flops"] / (total["wall_s"] * peak_flops) if total["wall_s"] else 0.0
    return result


def recent_step(entries: Iterable[Entry], stage: str, steps: int = RECENT_STEPS) -> dict[str, float] | None:
    """{"wall_s", "cpu_s"} of a step of `stage`, the mean of its last `steps` steps in its last attempt, with all that
    lay between them; None before the first step."""
    own = [entry for entry in entries if entry.stage == stage and entry.step is not None]
    attempt = max((entry.attempt for entry in own), default=0)
    of_attempt = [entry for entry in own if entry.attempt == attempt]
    last = sorted({entry.step for entry in of_attempt if entry.step is not None})[-steps:]
    recent = [entry for entry in of_attempt if entry.step in last]
    if not recent:
        return None
    wall = max(entry.end_s for entry in recent) - min(entry.start_s for entry in recent)
    return {"wall_s": wall / len(last), "cpu_s": math.fsum(entry.cpu_s for entry in recent) / len(last)}


def _row(entries: list[Entry], rate: float, watts: float) -> dict[str, float]:
    wall = math.fsum(entry.wall_s for entry in entries)
    cpu = math.fsum(entry.cpu_s for entry in entries)
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "energy_kwh": cpu * watts / JOULES_PER_KWH,
        "tokens": sum(entry.tokens for entry in entries),
        "flops": math.fsum(entry.flops for entry in entries),
        "money": wall * rate,
    }


def _grouped(entries: list[Entry], name: str) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(getattr(entry, name), []).append(entry)
    return groups


def _waste(entries: list[Entry]) -> dict[str, float]:
    """Seconds by kind of waste; work of a step that a later attempt did again counts once, as "repeated"."""
    last: dict[tuple[str, str, int | None], int] = {}
    for entry in entries:
        key = (entry.stage, entry.kind, entry.step)
        last[key] = max(last.get(key, 0), entry.attempt)
    waste = dict.fromkeys(WASTE, 0.0)
    for entry in entries:
        if entry.step is not None and last[entry.stage, entry.kind, entry.step] > entry.attempt:
            waste["repeated"] += entry.wall_s
        else:
            for kind, seconds in entry.waste.items():
                waste[kind] += seconds
    return waste


def balance(entries: Iterable[Entry]) -> None:
    """Prove that the ledger adds up; raises FarthingError naming the first violation.

    Nothing negative or not finite, waste no longer than its phase, known kinds, no overlap within an attempt,
    and the totals by stage and by kind both equal to the whole.
    """
    entries = list(entries)
    for entry in entries:
        _check_entry(entry)
    _check_overlap(entries)
    totals = summarize(entries, cores=1.0, price=1.0)
    wall = math.fsum(attempt_ends(entries).values())
    if not math.isclose(totals["wall_s"], wall, rel_tol=1e-9, abs_tol=_TOLERANCE_S * (len(entries) + 1)):
        raise FarthingError(f"ledger: phases add up to {totals['wall_s']} s, the attempts last {wall} s")
    for name in ("by_stage", "by_kind"):
        for what in (*_FIELDS, "money"):
            added = math.fsum(row[what] for row in totals[name].values())
            if not math.isclose(added, totals[what], rel_tol=1e-9, abs_tol=1e-9):
                raise FarthingError(f"ledger: {what} {name} adds up to {added}, the whole is {totals[what]}")


def _check_entry(entry: Entry) -> None:
    where = f"ledger: attempt {entry.attempt}, {entry.stage}/{entry.kind}, step {entry.step}"
    if entry.kind not in KINDS:
        raise FarthingError(f"{where}: unknown kind")
    numbers = {name: getattr(entry, name) for name in ("start_s", *_FIELDS)} | entry.waste
    for name, value in numbers.items():
        if not math.isfinite(value) or value < 0:
            raise FarthingError(f"{where}: {name} is {value}")
    for name, seconds in entry.waste.items():
        if name not in WASTE or seconds > entry.wall_s + _TOLERANCE_S:
            raise FarthingError(f"{where}: {seconds} s of {name} wasted in a phase of {entry.wall_s} s")


def _check_overlap(entries: list[Entry]) -> None:
    ends: dict[int, Entry] = {}
    for entry in sorted(entries, key=lambda item: (item.attempt, item.start_s, item.wall_s)):
        before = ends.get(entry.attempt)
        if before is not None and entry.start_s < before.end_s - _TOLERANCE_S:
            raise FarthingError(
                f"ledger: attempt {entry.attempt}: {entry.stage}/{entry.kind} starts at {entry.start_s} s, "
                f"inside {before.stage}/{before.kind} which ends at {before.end_s} s"
            )
        ends[entry.attempt] = entry
