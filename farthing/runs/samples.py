"""samples.jsonl: whole groups of samples kept for reading.

One line is {"stage", "step", "problem": {..}, "prompt": str, "samples": [{"text", "reward", "advantage",
"correct", "parts": {}, "answer", "error", "finish_reason", "tokens"}]}: all samples of a group, because a
reward only means something beside its siblings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farthing.runs.files import JsonLines, Record, read_lines


class SampleLog:
    """The samples file of a run."""

    def __init__(self, path: str | Path) -> None:
        self._file = JsonLines(path)

    def log(self, stage: str, step: int, group: Mapping[str, Any]) -> None:
        """Append one group; its keys stand beside "stage" and "step"."""
        self._file.append({"stage": stage, "step": int(step), **group})

    def truncate(self, stage: str, step: int | None) -> int:
        """Drop the groups of `stage` after `step` (all of them for None)."""
        return self._file.truncate(stage, step)

    def close(self) -> None:
        self._file.close()


def read(path: str | Path) -> list[Record]:
    """Every group of a samples file, oldest first; a torn last line is left out."""
    return read_lines(Path(path))
