"""TensorBoard, trackio and W&B as sinks; each comes with the extra `track` and is imported only when asked for."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from farthing.config import fingerprint
from farthing.errors import UserError
from farthing.runs.files import Record
from farthing.runs.metrics import Sink


def make_sinks(
    names: Iterable[str],
    run: str | Path,
    *,
    project: str = "farthing",
    config: Mapping[str, Any] | None = None,
) -> list[Sink]:
    """The sinks of a recipe's [track]; raises UserError where the package of one is not installed."""
    run = Path(run)
    return [SINKS[name](run, project, dict(config or {})) for name in names]


def _require(package: str, sink: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as problem:
        missing = problem.name or package
        raise UserError(
            f'[track] sinks: {sink} needs the package {missing}: pip install "farthing[track]", '
            f'or take "{sink}" out of the list'
        ) from None


def scalars(record: Record) -> dict[str, float]:
    """The numbers of a record by name; "grpo/reward" and the like, so that stages do not overwrite each other.

    Values that were not finite are left out here: they are null in the record.
    """
    stage = record["stage"]
    skipped = ("stage", "step", "time", "nonfinite")
    return {
        f"{stage}/{name}": float(value)
        for name, value in record.items()
        if name not in skipped and isinstance(value, int | float)
    }


class TensorBoard:
    """Event files under RUN/tensorboard; each stage has its own step axis."""

    def __init__(self, run: Path, project: str, config: dict[str, Any]) -> None:
        # TensorBoard's own record writer: torch's SummaryWriter would bring torch in.
        self._proto = _require("tensorboard.compat.proto.summary_pb2", "tensorboard")
        self._events = _require("tensorboard.compat.proto.event_pb2", "tensorboard")
        writer = _require("tensorboard.summary.writer.event_file_writer", "tensorboard")
        self._writer = writer.EventFileWriter(str(run / "tensorboard"))

    def write(self, record: Record) -> None:
        values = [
            self._proto.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(record).items()
        ]
        event = self._events.Event(
            step=record["step"], wall_time=record["time"], summary=self._proto.Summary(value=values)
        )
        self._writer.add_event(event)

    def close(self) -> None:
        self._writer.close()


class Tracker:
    """trackio and W&B, which have one interface: init, log, finish.

    Neither takes a step below the last one, and every stage counts from 1, so the step is a value of its own.
    """

    def __init__(
        self, package: str, run: Path, project: str, config: dict[str, Any], **settings: Any
    ) -> None:
        self._library = _require(package, package)
        self._library.init(project=project, name=run.name, config=config, **settings)

    def write(self, record: Record) -> None:
        self._library.log({**scalars(record), f"{record['stage']}/step": record["step"]})

    def close(self) -> None:
        self._library.finish()


def _trackio(run: Path, project: str, config: dict[str, Any]) -> Sink:
    return Tracker("trackio", run, project, config, resume="allow")


def _wandb(run: Path, project: str, config: dict[str, Any]) -> Sink:
    # The same directory goes on as the same W&B run; another directory of that name is another run.
    mark = fingerprint(str(run.resolve()))[:8]
    return Tracker("wandb", run, project, config, dir=str(run), id=f"{project}-{mark}", resume="allow")


SINKS: dict[str, Callable[[Path, str, dict[str, Any]], Sink]] = {
    "tensorboard": TensorBoard,
    "trackio": _trackio,
    "wandb": _wandb,
}
