"""The run directory: one writer at a time, readable by anyone at any time.

    RUN/ recipe.toml  config.json  status.json  lock  metrics.jsonl  samples.jsonl  ledger.jsonl
         logs/attempt_N.log  stages/NAME/{artifact.json, checkpoints/.., model/..}  base/  model/  summary.json

Report, dashboard, resume and tests read these files and nothing else. Opening an existing directory continues
it: the recipe must be the same, except for keys that only extend a run (more steps, another price).
"""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from farthing.config import fingerprint, to_toml
from farthing.errors import RunError
from farthing.runs.changes import Extendable, check_same_run, never_extended
from farthing.runs.files import JsonLines, read_json, write_atomic, write_json

State = Literal["running", "finished", "failed", "interrupted"]
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RunDir:
    """An open, locked run directory. Use as a context manager, or call close()."""

    path: Path
    attempt: int
    """1 for a new run, one more for every time it was opened again."""
    extended: list[str]
    """The keys that this opening extended, dotted; empty for a plain resume."""

    def __init__(self, path: Path, recipe: Mapping[str, Any], lock: int, created: bool) -> None:
        self.path = path
        self.recipe = dict(recipe)
        self.created = created
        self.extended = []
        self._lock = lock
        self._status = _load_status(path)
        self.attempt = int(self._status.get("attempt", 0)) + 1
        self._handler: logging.Handler | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        recipe: Mapping[str, Any],
        *,
        version: str = "unknown",
        extendable: Extendable = never_extended,
    ) -> Self:
        """Create or continue the run in `path` and lock it.

        `recipe` is the resolved recipe (JSON values, None left out). `extendable(key, old, new)` says whether
        a dotted key may differ from the run's own. Raises RunError where the directory is in use, belongs to
        another recipe, or holds something that is not a run.
        """
        path = Path(path)
        _refuse_foreign(path)
        lock = _acquire(path)
        try:
            created = not (path / "config.json").exists()
            run = cls(path, recipe, lock, created)
            run._begin(version, extendable)
        except BaseException:
            os.close(lock)
            raise
        return run

    def _begin(self, version: str, extendable: Extendable) -> None:
        created = time.time()
        if not self.created:
            config = read_json(self.path / "config.json")
            changed = check_same_run(self.path, config["recipe"], self.recipe, extendable)
            if changed:
                self._reopen_stages(changed)
            self.extended, created = changed, config["created"]
        # config.json comes first: its presence is what makes a directory a run.
        identity = {"fingerprint": fingerprint(self.recipe), "recipe": self.recipe}
        write_json(self.path / "config.json", {**identity, "version": version, "created": created})
        write_atomic(self.path / "recipe.toml", to_toml(self.recipe))
        self._attach_log()
        self.write_status("running", message="")

    def _attach_log(self) -> None:
        path = self.path / "logs" / f"attempt_{self.attempt}.log"
        path.parent.mkdir(exist_ok=True)
        self._handler = logging.FileHandler(path, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter(_LOG_FORMAT))
        logger = logging.getLogger("farthing")
        logger.addHandler(self._handler)
        logger.setLevel(logging.INFO)

    def _reopen_stages(self, changed: list[str]) -> None:
        """Un-finish the first extended stage; what came after it was made from the shorter one and goes."""
        order = [str(name) for name in self.recipe.get("stages", [])]
        touched = [order.index(key.split(".")[0]) for key in changed if key.split(".")[0] in order]
        if not touched:
            return
        first, later = order[min(touched)], order[min(touched) + 1 :]
        (self.path / "summary.json").unlink(missing_ok=True)
        (self.path / "stages" / first / "artifact.json").unlink(missing_ok=True)
        for name in later:
            shutil.rmtree(self.path / "stages" / name, ignore_errors=True)
            self._status.get("stages", {}).pop(name, None)
            for log in ("metrics.jsonl", "samples.jsonl"):
                if (self.path / log).exists():
                    lines = JsonLines(self.path / log)
                    lines.truncate(name, None)
                    lines.close()

    def stage_dir(self, stage: str) -> Path:
        """RUN/stages/STAGE, created."""
        path = self.path / "stages" / stage
        path.mkdir(parents=True, exist_ok=True)
        return path

    def artifact(self, stage: str) -> dict[str, Any] | None:
        """{"stage", "fingerprint", "inputs", "outputs", "finished"} of a finished stage; None until then."""
        return read_artifact(self.path, stage)

    def is_finished(self, stage: str, fingerprint: str) -> bool:
        """Whether the stage is finished with exactly this fingerprint."""
        artifact = self.artifact(stage)
        return artifact is not None and artifact["fingerprint"] == fingerprint

    def write_artifact(
        self, stage: str, fingerprint: str, inputs: Mapping[str, str], outputs: Mapping[str, str]
    ) -> dict[str, Any]:
        """Mark a stage finished. `inputs`: name of an earlier stage or file -> its fingerprint;
        `outputs`: what it is ("model", "tokenizer") -> path relative to the run directory."""
        for what, output in outputs.items():
            if not (self.path / output).exists():
                raise RunError(f"stage {stage}: its {what}, {self.path / output}, does not exist")
        artifact = {
            "stage": stage,
            "fingerprint": fingerprint,
            "inputs": dict(inputs),
            "outputs": dict(outputs),
            "finished": round(time.time(), 3),
        }
        write_json(self.stage_dir(stage) / "artifact.json", artifact)
        return artifact

    def read_status(self) -> dict[str, Any]:
        """The status as last written."""
        return _load_status(self.path)

    def write_status(
        self,
        state: State | None = None,
        *,
        stage: str | None = None,
        stage_state: State | None = None,
        step: int | None = None,
        steps: int | None = None,
        message: str | None = None,
    ) -> None:
        """Change what is given and keep the rest; `stage_state`, `step` and `steps` belong to `stage`."""
        status = self._status
        status["attempt"] = self.attempt
        for key, value in (("state", state), ("stage", stage), ("message", message)):
            if value is not None:
                status[key] = value
        if stage is not None:
            fresh = {"state": "running", "step": 0, "steps": 0}
            entry = status.setdefault("stages", {}).setdefault(stage, fresh)
            for key, given in (("state", stage_state), ("step", step), ("steps", steps)):
                if given is not None:
                    entry[key] = given
        write_json(self.path / "status.json", status, durable=state is not None)

    def close(self, state: State | None = None, message: str | None = None) -> None:
        """Write the last state, if one is given, and let go of the lock."""
        if self._lock < 0:
            return
        try:
            if state is not None:
                stage = self._status.get("stage")
                open_stage = self._status.get("stages", {}).get(stage, {}).get("state") == "running"
                stopped = stage if open_stage and state != "finished" else None
                self.write_status(state, stage=stopped, stage_state=state, message=message)
        finally:
            if self._handler is not None:
                logging.getLogger("farthing").removeHandler(self._handler)
                self._handler.close()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._status.get("state") != "running" or self._lock < 0:
            self.close()
        elif kind is None:
            self.close("finished")
        elif issubclass(kind, KeyboardInterrupt):
            self.close("interrupted", "stopped from the keyboard; the same command goes on")
        else:
            self.close("failed", f"{kind.__name__}: {error}")


def _refuse_foreign(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose another --run-dir")
    if path.is_dir() and not (path / "config.json").exists():
        names = sorted(entry.name for entry in path.iterdir())
        foreign = [name for name in names if name != "lock" and not name.startswith(".")]
        if foreign:
            raise RunError(f"{path} holds {foreign[0]} and is not a run directory; choose another --run-dir")


def _acquire(path: Path) -> int:
    """The locked descriptor of RUN/lock; raises RunError naming the process that holds it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as problem:
        raise RunError(f"{path}: cannot be created: {problem.strerror}") from None
    if not _try_lock(lock):
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise RunError(f"{path} is in use by process {holder}; wait for it or choose another --run-dir")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    _close_in_children(lock)
    return lock


def _try_lock(lock: int) -> bool:
    """A few tries, because a dashboard that asks whether a run is alive holds the lock for an instant."""
    for attempt in range(5):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02 * attempt)
    return False


def _close_in_children(lock: int) -> None:
    """A forked worker shares the lock with its parent and would hold it after the parent was killed."""
    inode = os.fstat(lock).st_ino

    def close() -> None:
        try:
            if os.fstat(lock).st_ino == inode:
                os.close(lock)
        except OSError:
            return  # closed before the fork

    os.register_at_fork(after_in_child=close)


def is_locked(path: str | Path) -> bool:
    """Whether some process is running in this directory now."""
    try:
        lock = os.open(Path(path) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(lock)


def read_artifact(path: str | Path, stage: str) -> dict[str, Any] | None:
    """The artifact of a finished stage, or None."""
    file = Path(path) / "stages" / stage / "artifact.json"
    artifact: dict[str, Any] | None = read_json(file) if file.exists() else None
    return artifact


def read_status(path: str | Path) -> dict[str, Any]:
    """The status of any run; one that says "running" while nobody holds its lock was "interrupted"."""
    status = _load_status(Path(path))
    if status.get("state") == "running" and not is_locked(path):
        status["state"] = "interrupted"
    return status


def read_config(path: str | Path) -> dict[str, Any]:
    """config.json of a run; raises RunError where `path` is not a run directory."""
    file = Path(path) / "config.json"
    if not file.exists():
        raise RunError(f"{path} is not a run directory (it has no config.json)")
    config: dict[str, Any] = read_json(file)
    return config


def _load_status(path: Path) -> dict[str, Any]:
    file = path / "status.json"
    status: dict[str, Any] = read_json(file) if file.exists() else {"state": "running", "stages": {}}
    return status


__all__ = ["RunDir", "State", "is_locked", "read_artifact", "read_config", "read_status"]
