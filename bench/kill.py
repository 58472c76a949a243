"""Kill a run at random instants and compare what comes out with the run that was left alone.

    python bench/kill.py --recipe recipes/tiny.toml [--kills 5] [--per-run 5] [--seed 0] [--set a.b=c]... [--json]

The recipe is carried out once undisturbed. Then it is carried out again, killed with SIGKILL at instants drawn evenly
over the length of the fastest undisturbed run so far, and started anew on the same directory; after `--per-run` kills
it is left to finish, compared, and the next one begins, until `--kills` kills are spent. Compared bit for bit: the
weights of every model, tokenizer, newest checkpoints, evaluations, conversations, every metric that does not read a
clock, every kept sample. That no step is logged twice and that the ledger balances is checked as well.

Every life is a process of its own, forked from one that has imported everything and computed nothing, so that the kills
fall on the work and not on the imports. The last line is JSON: {"kills", "differences", "runs", "different", ...}.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farthing import pipeline
from farthing.cost import ledger
from farthing.cost.hardware import available_cores, processor_name
from farthing.errors import FarthingError
from farthing.runs import metrics, samples
from farthing.stages.kinds import KINDS

WEIGHED = (
    "base/*.safetensors",
    "model/*.safetensors",
    "*/tokenizer.json",
    "stages/*/model/*.safetensors",
    "stages/*/evaluations.json",
    "stages/*/problems.json",
    "stages/*/conversations.jsonl",
    "stages/*/selection.json",
    "stages/*/rollbacks.jsonl",
)
CLOCKS = ("time", "step_time", "tokens_per_second", "mfu")


@dataclass(frozen=True)
class Job:
    """What is carried out, and where each life says what it has to say."""

    recipe: Path
    overrides: Sequence[str]
    log: Path


def prepare() -> None:
    """Import now what every life needs; compute only in the children, because threads do not survive a fork."""
    import torch

    for kind in KINDS.values():
        importlib.import_module(kind.module)
    # An optimizer imports the compiler when the first one is made, which takes seconds.
    torch.optim.Muon([torch.nn.Parameter(torch.empty(1, 1))])


def live(job: Job, directory: Path, seconds: float | None) -> tuple[bool, float]:
    """One life of a run, killed after `seconds` if it lasts so long: (whether it was killed, how long it lived)."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        carry_out(job, directory)
    while True:
        finished, status = os.waitpid(child, os.WNOHANG)
        age = time.monotonic() - began
        if finished:
            if status:
                raise SystemExit(f"{directory}: ended with status {status}; see {job.log}")
            return False, age
        if seconds is not None and age >= seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True, age
        time.sleep(0.001)


def carry_out(job: Job, directory: Path) -> None:
    """In the child: run the recipe and leave."""
    code = 1
    with job.log.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            pipeline.run_recipe(job.recipe, directory, overrides=job.overrides)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def result(directory: Path) -> dict[str, Any]:
    """Everything that two equal runs have in common, by name."""
    found: dict[str, Any] = {}
    newest = [max(stage.glob("step_*")) for stage in directory.glob("stages/*/checkpoints")]
    files = [path for pattern in WEIGHED for path in directory.glob(pattern)]
    for path in [*files, *(checkpoint / "tensors.safetensors" for checkpoint in newest)]:
        found[str(path.relative_to(directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
    records = [without_clocks(record) for record in metrics.read(directory / "metrics.jsonl")]
    for record in records:
        found[f"metrics of {record['stage']}, step {record['step']}"] = record
    found["samples"] = samples.read(directory / "samples.jsonl")
    found["steps logged"] = len(records)
    return found


def without_clocks(record: dict[str, Any]) -> dict[str, Any]:
    """What of a metrics record is a function of the recipe."""
    timed = [name for name in record if name in CLOCKS or name.startswith(("time/", "cost/"))]
    return {name: value for name, value in record.items() if name not in timed}


def differences(alone: dict[str, Any], directory: Path) -> list[str]:
    """What of a finished run is not as in the run left alone."""
    found = result(directory)
    wrong = [name for name in sorted(alone.keys() | found.keys()) if alone.get(name) != found.get(name)]
    try:
        ledger.balance(ledger.read(directory / "ledger.jsonl"))
    except FarthingError as problem:
        wrong.append(f"ledger: {problem}")
    return [f"{directory.name}: {name}" for name in wrong]


def torment(job: Job, work: Path, kills: int, per_run: int, rng: random.Random) -> dict[str, Any]:
    """The undisturbed run, then as many disturbed ones as the kills last for."""
    _, length = live(job, work / "alone", None)
    alone = result(work / "alone")
    print(f"left alone: {length:.1f} s, {len(alone)} things to compare")
    wrong: list[str] = []
    spent = runs = 0
    while spent < kills:
        runs += 1
        directory = work / f"killed_{runs}"
        instants: list[float] = []
        was_killed = True
        while was_killed:
            ends = spent >= kills or len(instants) >= per_run
            was_killed, age = live(job, directory, None if ends else rng.uniform(0, length))
            if was_killed:
                spent += 1
                instants.append(round(age, 2))
            elif not instants:
                # The first run may have been slowed by something else: instants beyond the end kill nothing.
                length = min(length, age)
        new = differences(alone, directory)
        wrong += new
        print(f"{directory.name}: killed after {instants} s: {', '.join(new) or 'equal'}", flush=True)
    return {
        "kills": spent,
        "differences": len(wrong),
        "runs": runs,
        "different": wrong,
        "alone_s": round(length, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kill a run again and again; what comes out must not change."
    )
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=5, help="how many kills in all")
    parser.add_argument("--per-run", type=int, default=5, help="after so many, a run is left to finish")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--work", type=Path, help="where the runs are kept; a temporary directory when not given"
    )
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    given = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        shown = os.dup(1)
        if given.json:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        job = Job(given.recipe, given.overrides, work / "lives.log")
        found = torment(job, work, given.kills, given.per_run, random.Random(given.seed))
        sys.stdout.flush()
        os.dup2(shown, 1)
    machine = {"processor": processor_name(), "cores": available_cores(), "recipe": str(given.recipe)}
    print(json.dumps({**found, **machine}))


if __name__ == "__main__":
    main()
