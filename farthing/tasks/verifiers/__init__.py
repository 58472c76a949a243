"""Verifiers by name: what a JSONL taskset may ask for.

An in-process verifier is a pure function `verify(answer, gold, **options) -> Verdict`. A pooled one may
hang on hostile input and runs in killable workers. The rules of each, and how often each is wrong, are in
docs/verifiers.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """`target`: "module:function"; `options`: the keyword arguments a taskset may set; `pooled`: runs in
    workers."""

    target: str
    options: tuple[str, ...] = ()
    pooled: bool = False


VERIFIERS: dict[str, Entry] = {
    "exact": Entry("farthing.tasks.verifiers.exact:verify", ("case",)),
    "numeric": Entry("farthing.tasks.verifiers.numeric:verify", ("decimal", "tolerance", "prose")),
    "choice": Entry("farthing.tasks.verifiers.choice:verify"),
    "math": Entry("farthing.tasks.verifiers.math:prepare", ("decimal",), pooled=True),
    "format": Entry("farthing.tasks.verifiers.format:verify"),
}
