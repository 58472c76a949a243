"""Working time: the seconds a run has lived, without the hours it lay dead between two attempts."""

from bisect import bisect_right
from collections.abc import Callable

from farthing.cost.entries import attempt_ends
from farthing.report.reading import Record, RunFiles, number

Elapsed = Callable[[float], float]


def elapsed(run: RunFiles) -> Elapsed:
    """A function from unix seconds to seconds of working time, by the ledger's attempts.

    Without a ledger the first metric is taken as the beginning.
    """
    starts = sorted((float(header["started"]), int(header["attempt"])) for header in run.attempts)
    if not starts:
        times = [time for record in run.metrics if (time := number(record.get("time"))) is not None]
        first = min(times, default=0.0)
        return lambda time: max(0.0, time - first)
    walls = attempt_ends(run.ledger)
    before = [sum(walls.get(attempt, 0.0) for _, attempt in starts[:place]) for place in range(len(starts))]

    def working(time: float) -> float:
        place = max(0, bisect_right(starts, (time, 1 << 62)) - 1)
        return before[place] + max(0.0, time - starts[place][0])

    return working


def minutes(record: Record, clock: Elapsed) -> float | None:
    """Minutes of working time, as the run counted them itself or else by its ledger."""
    seconds, time = number(record.get("cost/wall_s")), number(record.get("time"))
    if seconds is None:
        return None if time is None else clock(time) / 60
    return seconds / 60
