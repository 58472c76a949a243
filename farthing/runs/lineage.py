"""Where a model comes from: each finished stage names what it was made of, by fingerprint.

A stage's fingerprint covers its kind, its settings, the seed and the fingerprints of its inputs, so that equal
fingerprints mean equal results wherever the computation is reproducible.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farthing.config import fingerprint
from farthing.errors import RunError
from farthing.runs.store import read_artifact


def stage_fingerprint(kind: str, settings: Mapping[str, Any], seed: int, inputs: Mapping[str, str]) -> str:
    """sha256 (hex). `settings`: everything that decides the result (stage, task and model tables, as JSON
    values); `inputs`: name of an earlier stage or of a file -> its fingerprint."""
    return fingerprint({"kind": kind, "settings": settings, "seed": seed, "inputs": inputs})


def ancestry(run: str | Path, stage: str) -> list[dict[str, Any]]:
    """The artifacts that `stage` of a run was made from, oldest first, itself last.

    Raises RunError where a stage has not finished, was made from another version of its input, or is its own
    ancestor.
    """
    order: list[dict[str, Any]] = []
    _visit(Path(run), stage, None, order, ())
    return order


def _visit(
    run: Path, stage: str, expected: str | None, order: list[dict[str, Any]], path: tuple[str, ...]
) -> None:
    if stage in path:
        raise RunError(f"{run}: stage {stage} is made from itself: {' <- '.join([*path, stage])}")
    artifact = read_artifact(run, stage)
    if artifact is None:
        raise RunError(f"{run}: stage {stage} has not finished")
    if expected is not None and artifact["fingerprint"] != expected:
        raise RunError(f"{run}: stage {path[-1]} was made from another version of stage {stage}")
    for name, mark in artifact["inputs"].items():
        if (run / "stages" / name).is_dir():  # what is not a stage is a file from outside: a leaf
            _visit(run, name, mark, order, (*path, stage))
    if all(known["stage"] != stage for known in order):
        order.append(artifact)
