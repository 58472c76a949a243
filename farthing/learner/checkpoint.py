"""Training checkpoints: atomic, verified, pruned. safetensors and JSON only.

A checkpoint is a directory step_00000100/ with tensors.safetensors, state.json and, written last, manifest.json (size
and sha256 of the others). It is made beside its place and renamed, so a directory with a manifest is whole; one that
does not match its manifest is passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from farthing.errors import CheckpointError
from farthing.runs.files import wait_for_disk

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: `step` optimizer or rollout steps were done."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one stage, in `directory`; the last `keep` stay."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory, self.keep = directory, keep

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of `step`; older ones are removed only after it is whole.

        Raises CheckpointError (a full disk, for one); the checkpoints before it stay as they are.
        """
        target = self.directory / f"step_{step:08d}"
        temporary = self.directory / f".step_{step:08d}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary / TENSORS)
            (temporary / STATE).write_text(json.dumps({"step": step, **state}))
            _write_manifest(temporary)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
            wait_for_disk(self.directory)
        except (OSError, SafetensorError) as problem:
            shutil.rmtree(temporary, ignore_errors=True)
            reason = getattr(problem, "strerror", None) or str(problem)
            raise CheckpointError(
                f"{target}: cannot be written: {reason}; the checkpoint before it is untouched, "
                "make room and run the same command again"
            ) from problem
        self._prune()
        return target

    def _prune(self) -> None:
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.directory / f"step_{old:08d}", ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps that have a whole-looking checkpoint, ascending."""
        numbers = [path.parent.name[5:] for path in self.directory.glob(f"step_*/{MANIFEST}")]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def go_back(self, step: int) -> int:
        """Remove every checkpoint after `step`, the newest first; the step of the one that is then the latest, or 0."""
        for later in reversed([known for known in self.steps() if known > step]):
            shutil.rmtree(self.directory / f"step_{later:08d}")
        saved = self.latest()
        return 0 if saved is None else saved.step

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that matches its manifest, or None."""
        for step in reversed(self.steps()):
            path = self.directory / f"step_{step:08d}"
            if _is_whole(path):
                state = json.loads((path / STATE).read_text())
                return Checkpoint(step, load_file(path / TENSORS), state)
        return None


def _write_manifest(directory: Path) -> None:
    files = {
        path.name: {"size": path.stat().st_size, "sha256": _sha256(path)} for path in directory.iterdir()
    }
    for name in files:
        wait_for_disk(directory / name)
    (directory / MANIFEST).write_text(json.dumps(files))
    wait_for_disk(directory / MANIFEST)
    wait_for_disk(directory)


def _is_whole(directory: Path) -> bool:
    try:
        files = json.loads((directory / MANIFEST).read_text())
        return all(
            (directory / name).stat().st_size == files[name]["size"]
            and _sha256(directory / name) == files[name]["sha256"]
            for name in (TENSORS, STATE)
        )
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
