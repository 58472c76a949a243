"""Guards of a run of reinforcement learning: what counts as gone wrong, and the way back.

Going back is resuming: the line in rollbacks.jsonl is written, checkpoints from after the trouble are gone, and the
stage starts as after a crash, with a learning rate that is halved for every line. What a guard sees is a function of
metrics.jsonl, so a run that is killed anywhere in between goes back at the same step to the same checkpoint.
"""

from __future__ import annotations

import logging
from pathlib import Path

from farthing.errors import Derailed
from farthing.learner.checkpoint import Checkpoints
from farthing.runs import metrics as logs
from farthing.runs.files import JsonLines, Record, read_lines
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.config.guards import GuardConfig
from farthing.stages.context import Context
from farthing.stages.signs import ROLLBACKS, SIGNS, View

_log = logging.getLogger(__name__)
SLOWER = 0.5


class Watch:
    """What the guards of one stage have seen: its metrics, those of earlier attempts from disk."""

    def __init__(self, context: Context, limits: GuardConfig) -> None:
        own = [r for r in logs.read(context.run.path / "metrics.jsonl") if r["stage"] == context.name]
        self.records: list[Record] = own
        self.limits = limits

    def see(self, record: Record) -> None:
        """Take in the metrics of a step; raises Derailed where a guard says that the run has gone wrong."""
        self.records.append(record)
        view = View(self.records, self.limits.window)
        for sign in SIGNS:
            trouble = sign(view, self.limits)
            if trouble is not None:
                raise Derailed(f"step {record['step']}: {trouble}", since=record["step"] - self.limits.window)


def rollbacks(directory: Path) -> list[Record]:
    """What has happened to a stage: {"stage", "step", "to", "why"} of every time it went back."""
    return read_lines(directory / ROLLBACKS)


def slowed(context: Context, config: GrpoConfig) -> GrpoConfig:
    """The configuration with the learning rates halved for every time the stage went back."""
    factor = SLOWER ** len(rollbacks(context.directory))
    return config.model_copy(update={"lr": config.lr * factor, "muon_lr": config.muon_lr * factor})


def go_back(context: Context, config: GrpoConfig, trouble: Derailed, step: int) -> None:
    """Make the newest checkpoint from before the trouble the one that is resumed from; raises the trouble, with what
    has been tried, where the stage has gone back as often as it may."""
    tried, allowed = len(rollbacks(context.directory)), config.guards.rollbacks
    if tried >= allowed:
        before = f"; going back did not help (tried: {tried}, each time at half the rate)" if tried else ""
        raise Derailed(f"{trouble}{before}") from trouble
    checkpoints = Checkpoints(context.directory / "checkpoints", config.keep_checkpoints)
    to = checkpoints.go_back(step if trouble.since is None else trouble.since)
    lines = JsonLines(context.directory / ROLLBACKS)
    lines.append({"stage": context.name, "step": step, "to": to, "why": str(trouble)})
    lines.close()
    _log.warning("%s: %s; going back to step %d with half the learning rate", context.name, trouble, to)
