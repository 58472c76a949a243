"""Everything the report reads from a run directory, with what could not be read said in words.

A report is wanted most when a run went wrong, so a missing, torn or damaged file costs its own part of the page and
never the page.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from farthing.cost import entries as ledger
from farthing.cost.entries import KINDS, WASTE, Entry
from farthing.errors import FarthingError, RunError
from farthing.runs import metrics, samples
from farthing.runs.files import read_json, read_lines
from farthing.runs.store import is_locked
from farthing.stages.signs import ROLLBACKS

Record = dict[str, Any]
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class RunFiles:
    """The content of a run directory. Missing files are empty; `notices` names what was unreadable.

    `evaluated` and `problems`: evaluations.json and problems.json of the stages that left them, by model and taskset;
    `rollbacks`: every time that a stage went back to a checkpoint.
    """

    path: Path
    config: Record = field(default_factory=dict)
    status: Record = field(default_factory=dict)
    summary: Record = field(default_factory=dict)
    model: Record = field(default_factory=dict)
    hardware: Record = field(default_factory=dict)
    evaluated: dict[str, Record] = field(default_factory=dict)
    problems: dict[str, Record] = field(default_factory=dict)
    rollbacks: list[Record] = field(default_factory=list)
    recipe_text: str = ""
    metrics: list[Record] = field(default_factory=list)
    groups: list[Record] = field(default_factory=list)
    ledger: list[Entry] = field(default_factory=list)
    attempts: list[Record] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Record:
        return table(self.config.get("recipe"))

    def kind(self, stage: str) -> str:
        """What a stage does; its name where the recipe does not say."""
        return str(table(self.recipe.get(stage)).get("kind", stage))

    @property
    def learning(self) -> list[Record]:
        """The metrics of the stages that learn: an evaluation is a result and no curve."""
        return [record for record in self.metrics if self.kind(record["stage"]) != "evaluate"]

    def stage_names(self) -> list[str]:
        """Every stage that the recipe lists or a record names, in the order of the recipe, then of appearance."""
        listed = self.recipe.get("stages")
        names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        names += [record["stage"] for record in self.metrics + self.groups]
        return list(dict.fromkeys(names))


def read_run(run_dir: str | Path) -> RunFiles:
    """Read what is there; raises RunError only where there is no such directory."""
    path = Path(run_dir)
    if not path.is_dir():
        raise RunError(f"{path}: no such run directory; give the --run-dir of a `farthing run`")
    notices: list[str] = []
    return RunFiles(
        path=path,
        config=_json(path / "config.json", notices),
        status=_status(path, notices),
        summary=_json(path / "summary.json", notices),
        hardware=_json(path / "hardware.json", notices),
        evaluated={file.parent.name: _json(file, notices) for file in _stage_files(path, "evaluations.json")},
        problems={file.parent.name: _json(file, notices) for file in _stage_files(path, "problems.json")},
        rollbacks=[
            record
            for file in _stage_files(path, ROLLBACKS)
            for record in _records(read_lines, file, notices, stepped)
        ],
        model=_json(path / "model" / "config.json", notices) or _json(path / "base" / "config.json", notices),
        recipe_text=_text(path / "recipe.toml", notices),
        metrics=_records(metrics.read, path / "metrics.jsonl", notices, stepped),
        groups=_records(samples.read, path / "samples.jsonl", notices, stepped),
        ledger=_records(ledger.read, path / "ledger.jsonl", notices, _sound),
        attempts=_records(_headers, path / "ledger.jsonl", [], _dated),
        notices=notices,
    )


def read_state(run_dir: str | Path) -> RunFiles:
    """Only what says where a run stands: nothing that grows while it runs."""
    path, notices = Path(run_dir), list[str]()
    return RunFiles(
        path=path,
        config=_json(path / "config.json", notices),
        status=_status(path, notices),
        summary=_json(path / "summary.json", notices),
        evaluated={file.parent.name: _json(file, notices) for file in _stage_files(path, "evaluation.json")},
        notices=notices,
    )


def _stage_files(path: Path, name: str) -> list[Path]:
    return sorted(path.glob(f"stages/*/{name}"))


def _headers(path: Path) -> list[Record]:
    """The lines of the ledger that say when an attempt began."""
    return [line for line in read_lines(path) if isinstance(line, dict) and "started" in line]


def _json(path: Path, notices: list[str]) -> Record:
    if not path.exists():
        return {}
    try:
        value = read_json(path)
    except FarthingError as problem:
        notices.append(_relative(problem, path))
        return {}
    if not isinstance(value, dict):
        notices.append(f"{path.name}: not a JSON object")
    return table(value)


def _status(path: Path, notices: list[str]) -> Record:
    """The status; a run that says it is running while nobody holds its lock was interrupted."""
    status = _json(path / "status.json", notices)
    dead = status.get("state") == "running" and not is_locked(path)
    return {**status, "state": "interrupted"} if dead else status


def _text(path: Path, notices: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as problem:
        notices.append(f"{path.name}: cannot be read: {problem.strerror}")
        return ""


def _records(
    read: Callable[[Path], list[Kept]], path: Path, notices: list[str], usable: Callable[[Any], bool]
) -> list[Kept]:
    try:
        records = read(path)
    except (FarthingError, TypeError) as problem:
        notices.append(f"{_relative(problem, path)}; the page goes on without this file")
        return []
    kept = [record for record in records if usable(record)]
    if len(kept) < len(records):
        notices.append(f"{path.name}: {len(records) - len(kept)} records of an unknown shape left out")
    return kept


def _relative(problem: Exception, path: Path) -> str:
    """The page may be sent to others: it says metrics.jsonl, not where somebody keeps it."""
    return str(problem).replace(str(path), path.name)


def stepped(record: Any) -> bool:
    """A record that says which stage and step it belongs to."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("stage"), str)
        and number(record.get("step")) is not None
    )


def _dated(header: Record) -> bool:
    return all(number(header.get(key)) is not None for key in ("attempt", "started"))


def _sound(entry: Entry) -> bool:
    """A phase that can be added up."""
    numbers = (entry.attempt, entry.start_s, entry.wall_s, entry.cpu_s, entry.tokens, entry.flops)
    return (
        all(number(value) is not None for value in numbers)
        and isinstance(entry.stage, str)
        and isinstance(entry.kind, str)
        and entry.kind in KINDS
        and (entry.step is None or number(entry.step) is not None)
        and isinstance(entry.waste, dict)
        and all(kind in WASTE and number(seconds) is not None for kind, seconds in entry.waste.items())
    )


def table(value: Any) -> Record:
    """`value` where it is a JSON object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    """`value` where it is a finite number (booleans are not), otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < float("inf") else None
