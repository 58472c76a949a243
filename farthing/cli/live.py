"""Progress a person likes: a small live panel on a terminal, plain lines anywhere else.

The panel is drawn when a record arrives, at most twice a second and by the thread that logs, so that it neither
competes with the training nor outlives it.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from farthing.cli.progress import Progress, clock, sparkline
from farthing.runs.files import Record
from farthing.runs.metrics import Sink

REDRAW_S = 0.5
LINE_S = 5.0


@contextmanager
def live_view(stream: TextIO | None = None) -> Iterator[list[Sink]]:
    """The sinks that show a run on `stream` (standard output when not given) for as long as the block lasts."""
    console = _Console(file=stream or sys.stdout)
    warnings = _WarningsToConsole(console)
    fancy = console.is_terminal and not console.is_dumb_terminal
    sink: LivePanel | PlainLines = LivePanel(console) if fancy else PlainLines(stream or sys.stdout)
    logger = logging.getLogger("farthing")
    logger.addHandler(warnings)
    try:
        yield [sink]
    finally:
        logger.removeHandler(warnings)
        with suppress(OSError, ValueError):  # the terminal has gone: there is nobody left to tell
            sink.close()


class PlainLines:
    """One line every few seconds, at each evaluation, and when a stage begins or ends."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._progress = Progress()
        self._shown_at = float("-inf")

    def begin(self, about: Record) -> None:
        self._progress.begin(about)
        steps, step = self._progress.steps, self._progress.step
        where = f", going on after step {step}" if step else ""
        self._print(f"{self._progress.stage}: {steps} steps{where}" if steps else self._progress.stage)

    def write(self, record: Record) -> None:
        self._progress.update(record)
        telling = any(key.startswith(("eval/", "heldout")) for key in record) or "nonfinite" in record
        last = self._progress.step == self._progress.steps
        if telling or last or self._clock() - self._shown_at >= LINE_S:
            self._print(self._progress.line())
            self._shown_at = self._clock()

    def _print(self, line: str) -> None:
        try:
            print(line, file=self._stream, flush=True)
        except BrokenPipeError:
            _silence(self._stream)

    def close(self) -> None:
        """Nothing is held back."""


class LivePanel:
    """Three lines that are redrawn in place: how far, how well, how dear."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._progress = Progress()
        self._drawn_at = float("-inf")
        self._live: Live | None = None

    def begin(self, about: Record) -> None:
        self._progress.begin(about)
        self._draw()

    def write(self, record: Record) -> None:
        self._progress.update(record)
        if self._clock() - self._drawn_at >= REDRAW_S or self._progress.step == self._progress.steps:
            self._draw()

    def _draw(self) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(panel(self._progress, self._console.width), refresh=True)
        self._drawn_at = self._clock()

    def close(self) -> None:
        """Draw the last state and leave it standing."""
        live, self._live = self._live, None
        if live is not None:
            live.update(panel(self._progress, self._console.width))
            live.stop()


def panel(progress: Progress, width: int) -> RenderableType:
    """The picture of a run."""
    lines: list[RenderableType] = []
    if progress.done:
        lines.append(Text("done: " + " · ".join(progress.done), style="dim"))
    lines.append(_bar(progress))
    figures = Text()
    for label, value in progress.figures():
        figures.append(f"{label} ", style="dim").append(f"{value}   ", style="bold")
    lines.append(figures)
    if len(progress.curve) > 1:
        lines.append(Text(sparkline(progress.curve, min(60, width - 1)), style="green"))
    if progress.cost():
        lines.append(Text(f"so far {progress.cost()}", style="dim"))
    return Group(*lines)


def _bar(progress: Progress) -> RenderableType:
    left = progress.seconds_left()
    row = Table.grid(padding=(0, 2))
    name = Text(progress.stage, style="bold cyan")
    if not progress.steps:
        row.add_row(name, Text(f"step {progress.step}" if progress.step else "working"))
        return row
    row.add_row(
        name,
        ProgressBar(total=progress.steps, completed=progress.step, width=30),
        Text(f"{progress.step}/{progress.steps}"),
        Text(f"{clock(left)} left" if left is not None else "", style="dim"),
    )
    return row


class _Console(Console):
    """A console whose reader may leave (`farthing run ... | head`); rich itself would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _silence(self.file)


def _silence(stream: IO[str]) -> None:
    """Let everything that is still to come go nowhere, the flush at the end of the process included."""
    with suppress(OSError, ValueError):  # not a file of the system: nothing is buffered for it
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class _WarningsToConsole(logging.Handler):
    """Warnings stand above the panel; everything else is in the run's own log file."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):
            self._console.print(Text(f"{record.levelname.lower()}: {record.getMessage()}", style="yellow"))
