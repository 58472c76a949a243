"""Files that survive a crash at any instant: atomic replacement and append-only JSON lines.

A process killed while writing leaves either the old file or the new one, never a mixture; a line of JSON that
was being appended is torn at most at the very end, where reading ignores it and reopening cuts it off.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from farthing.errors import RunError

Record: TypeAlias = dict[str, Any]


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace `path` by `content` in one step; raises RunError (full disk, ...) and leaves the old file.

    `durable` also waits for the disk, so that the file survives a power cut; without it the file survives the
    death of the process, which is enough for a status written many times a minute.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            wait_for_disk(path.parent)
    except OSError as problem:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written: {problem.strerror}") from problem


def wait_for_disk(path: Path) -> None:
    """Make a file, or the names in a directory, durable: a rename is only safe from a power cut after this."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace `path` by `value` as readable JSON, atomically."""
    write_atomic(path, json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n", durable=durable)


def read_json(path: Path) -> Any:
    """The JSON value in `path`; raises RunError where it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, ValueError) as problem:
        raise RunError(f"{path}: cannot be read: {problem}") from None


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity replaced by None, because JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def encode_line(record: Record) -> bytes:
    """One record as one line of UTF-8 JSON, newline included."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(record), ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair in sampled text: only an escape can carry it
        return json.dumps(json.loads(text), ensure_ascii=True).encode() + b"\n"


def read_lines(path: Path) -> list[Record]:
    """Every whole record of a JSON-lines file, oldest first; a missing file has none.

    A torn last line is left out; damage anywhere else raises RunError with the line number.
    """
    return [record for _, record in _scan(path)]


def _scan(path: Path) -> Iterator[tuple[int, Record]]:
    """(end offset in bytes, record) for every whole line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as problem:
        raise RunError(f"{path}: cannot be read: {problem.strerror}") from None
    end = 0
    for number, line in enumerate(lines[:-1], start=1):
        end += len(line) + 1
        try:
            record = json.loads(line)
        except ValueError:
            if number == len(lines) - 1 and not lines[-1]:
                return
            raise RunError(f"{path}: line {number} is not JSON") from None
        yield end, record


class JsonLines:
    """An append-only file of records. Every append reaches the operating system before it returns."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._cut_torn_end()
        self._descriptor = self._open()

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise RunError(f"{self.path}: cannot be written: {problem.strerror}") from problem

    def _cut_torn_end(self) -> None:
        if self.path.exists():
            end = 0
            for end, _ in _scan(self.path):  # noqa: B007 - only the last offset matters
                pass
            if end < self.path.stat().st_size:
                os.truncate(self.path, end)

    def append(self, record: Record) -> None:
        """Add one line; raises RunError on a full disk, with the file as it was before."""
        data = encode_line(record)
        before = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as problem:
            os.ftruncate(self._descriptor, before)
            raise RunError(f"{self.path}: cannot be written: {problem.strerror}") from problem

    def keep(self, wanted: Callable[[Record], bool]) -> int:
        """Drop every record that is not `wanted`, atomically; returns how many were dropped."""
        records = read_lines(self.path)
        kept = [record for record in records if wanted(record)]
        if len(kept) < len(records):
            write_atomic(self.path, b"".join(map(encode_line, kept)))
            os.close(self._descriptor)
            self._descriptor = self._open()
        return len(records) - len(kept)

    def truncate(self, stage: str, step: int | None) -> int:
        """Drop the records of `stage` after `step` (all of them for None); returns how many were dropped."""
        return self.keep(lambda record: not _after(record, stage, step))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _after(record: Record, stage: str, step: int | None) -> bool:
    return record.get("stage") == stage and (step is None or int(record.get("step") or 0) > step)
