"""metrics.jsonl: one record per step and stage, and the sinks that watch it.

A record is {"stage", "step", "time" (unix seconds), **values}. A value that is not finite is written as null
and its name listed under "nonfinite": a run that blew up says so in its own file.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from farthing.runs.files import JsonLines, Record, read_lines

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Something that shows records as they come: the live view, TensorBoard, trackio, W&B."""

    def write(self, record: Record) -> None:
        """Show one record; it must not be changed."""

    def close(self) -> None:
        """Flush and let go."""


@runtime_checkable
class StageSink(Sink, Protocol):
    """A sink that also wants to know how far a stage has to go."""

    def begin(self, about: Record) -> None:
        """A stage begins or goes on: {"stage", "kind", "step", "steps", "time", ...}."""


class MetricsLog:
    """The metrics file of a run; every record goes to the file first and then to each sink.

    `extra` gives values to add to every record, such as the cost so far: {"cost/money": .., "cost/wall_s": ..}.
    `about` is told to the sinks when a stage begins: {"currency": "EUR"}.
    """

    def __init__(
        self,
        path: str | Path,
        sinks: Iterable[Sink] = (),
        extra: Callable[[], Mapping[str, float]] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._file = JsonLines(path)
        self._sinks = list(sinks)
        self._extra = extra
        self._about = dict(about or {})

    def begin(self, stage: str, *, kind: str, steps: int, step: int = 0, **about: Any) -> None:
        """Tell the sinks that `stage` begins (or goes on after `step`) and has `steps` steps; nothing is logged.

        `about` says more than the log's own `about`, or otherwise.
        """
        record = {"stage": stage, "kind": kind, "step": step, "steps": steps, "time": time.time()}
        record |= self._about | about
        for sink in list(self._sinks):
            if isinstance(sink, StageSink):
                self._guarded(sink, partial(sink.begin, record))

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> Record:
        """Append the values of one step (anything `float()` takes) and return the record as written."""
        extra = self._extra() if self._extra else {}
        record = make_record(stage, step, {**values, **extra}, time.time())
        self._file.append(record)
        for sink in list(self._sinks):
            self._guarded(sink, partial(sink.write, record))
        return record

    def _guarded(self, sink: Sink, action: Callable[[], None]) -> None:
        """A view must not end a run that has cost hours: it is switched off, and the log keeps the traceback."""
        try:
            action()
        except Exception:
            _log.exception("%s failed and is switched off; metrics.jsonl goes on", type(sink).__name__)
            self._sinks.remove(sink)

    def truncate(self, stage: str, step: int | None) -> int:
        """Drop what `stage` logged after `step` (everything for None): a resumed run will log it again."""
        return self._file.truncate(stage, step)

    def close(self) -> None:
        self._file.close()
        for sink in list(self._sinks):
            self._guarded(sink, sink.close)
        self._sinks.clear()


def make_record(stage: str, step: int, values: Mapping[str, float], now: float) -> Record:
    """The line for one step: numbers as plain int or float, non-finite ones as null and named."""
    numbers = {name: _number(value) for name, value in values.items()}
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    shown: dict[str, Any] = {name: None if name in broken else value for name, value in numbers.items()}
    record = {"stage": stage, "step": int(step), "time": round(now, 3), **shown}
    return {**record, "nonfinite": broken} if broken else record


def _number(value: Any) -> int | float:
    return value if isinstance(value, int) and not isinstance(value, bool) else float(value)


def read(path: str | Path) -> list[Record]:
    """Every record of a metrics file, oldest first; a torn last line is left out."""
    return read_lines(Path(path))
