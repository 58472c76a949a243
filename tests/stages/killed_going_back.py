"""A run that goes wrong and goes back, killed at one instant of that and gone on with.

    python killed_going_back.py RECIPE FOLDER

The run left alone is FOLDER/alone, one killed on the brink FOLDER/brink; for every instant a copy of that is killed
there and carried on to its end. The last line is JSON: {instant: [how the life with the kill ended, how the next did]}.
Every life is forked from a process that has imported everything and computed nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.kill import Job, carry_out, prepare
from farthing.learner.checkpoint import TENSORS, Checkpoints
from farthing.learner.local import LocalLearner
from farthing.runs.files import JsonLines, Record, encode_line
from farthing.stages import grpo, guards
from farthing.stages.policy import Policy


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_after(owner: Any, name: str) -> None:
    """Make `owner.name` the last thing that this process does."""
    real = getattr(owner, name)

    def last(*args: Any, **keys: Any) -> None:
        real(*args, **keys)
        die()

    setattr(owner, name, last)


def brink() -> None:
    """The guard has spoken and nothing is done yet."""
    grpo.go_back = die


def half_a_checkpoint_removed() -> None:
    def tear(directory: Path) -> None:
        (directory / TENSORS).unlink()
        die()

    while_going_back(lambda: setattr(shutil, "rmtree", tear))


def one_checkpoint_of_two_removed() -> None:
    while_going_back(lambda: dying_after(shutil, "rmtree"))


def checkpoints_removed() -> None:
    dying_after(Checkpoints, "go_back")


def half_a_line_written() -> None:
    class Torn(JsonLines):
        def append(self, record: Record) -> None:
            os.write(self._descriptor, encode_line(record)[:9])
            die()

    guards.JsonLines = Torn  # type: ignore[misc]


def gone_back() -> None:
    dying_after(grpo, "go_back")


def begun_again() -> None:
    when_back(lambda: dying_after(Policy, "start"))


def an_update_later() -> None:
    when_back(lambda: dying_after(LocalLearner, "step"))


INSTANTS = (
    half_a_checkpoint_removed,
    one_checkpoint_of_two_removed,
    checkpoints_removed,
    half_a_line_written,
    gone_back,
    begun_again,
    an_update_later,
)


def while_going_back(act: Callable[[], None]) -> None:
    real = grpo.go_back

    def going(*args: Any) -> None:
        act()
        real(*args)

    grpo.go_back = going


def when_back(act: Callable[[], None]) -> None:
    real = grpo.go_back

    def gone(*args: Any) -> None:
        real(*args)
        act()

    grpo.go_back = gone


def live(job: Job, directory: Path, instant: Callable[[], None] | None = None) -> str:
    """One life of the run in `directory`: "killed", "done" or what else became of it."""
    child = os.fork()
    if child == 0:
        if instant is not None:
            instant()
        carry_out(job, directory)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return "killed"
    return "done" if status == 0 else job.log.read_text()


def main() -> None:
    recipe, folder = Path(sys.argv[1]), Path(sys.argv[2])
    job = Job(recipe, (), folder / "lives.log")
    prepare()
    ends = {"alone": [live(job, folder / "alone")], "brink": [live(job, folder / "brink", brink)]}
    for instant in INSTANTS:
        directory = folder / instant.__name__
        shutil.copytree(folder / "brink", directory)
        ends[instant.__name__] = [live(job, directory, instant), live(job, directory)]
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
