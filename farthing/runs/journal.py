"""Scores are journaled before they are used, and replayed on resume.

A verifier with a time limit may answer differently the second time it is asked. So that a resumed run takes
exactly the path of the run left alone, the scores of a step are on disk before they reach an advantage; when
the step is done again, the same samples get the same scores without asking anyone.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from farthing.config import fingerprint
from farthing.runs.files import JsonLines, read_lines


def digest(samples: Iterable[Any]) -> str:
    """The identity of an ordered list of samples (texts, token id lists, or dictionaries of JSON)."""
    return fingerprint(list(samples))


class Journal:
    """The scores of one stage by (step, digest of the samples)."""

    def __init__(self, path: str | Path) -> None:
        self._file = JsonLines(path)
        self._known = {(line["step"], line["digest"]): line["scores"] for line in read_lines(Path(path))}

    def append(self, step: int, digest: str, scores: Sequence[Any]) -> None:
        """Keep the scores (JSON values, one per sample) before anything uses them."""
        self._file.append({"step": int(step), "digest": digest, "scores": list(scores)})
        self._known[step, digest] = list(scores)

    def lookup(self, step: int, digest: str) -> list[Any] | None:
        """The scores these samples were given at this step, or None if they were never scored."""
        return self._known.get((step, digest))

    def forget(self, step: int) -> None:
        """Drop everything up to and including `step`: a checkpoint holds what came of it."""
        if any(known <= step for known, _ in self._known):
            self._file.keep(lambda line: int(line["step"]) > step)
            self._known = {key: scores for key, scores in self._known.items() if key[0] > step}

    def close(self) -> None:
        self._file.close()
