"""A run killed at any instant: its files are whole, its lock is free, and the next attempt goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from farthing.cost.ledger import balance
from farthing.cost.ledger import read as read_ledger
from farthing.runs import metrics, samples
from farthing.runs.store import read_config, read_status

WRITER = """
import sys
from farthing.cost.ledger import Ledger
from farthing.runs.journal import Journal
from farthing.runs.metrics import MetricsLog, read
from farthing.runs.samples import SampleLog
from farthing.runs.store import RunDir

with RunDir.open(sys.argv[1], {"name": "x", "stages": ["grpo"], "grpo": {"kind": "grpo"}}) as run:
    ledger = Ledger(run.path / "ledger.jsonl", run.attempt, 1)
    log, kept = MetricsLog(run.path / "metrics.jsonl"), SampleLog(run.path / "samples.jsonl")
    journal = Journal(run.stage_dir("grpo") / "journal.jsonl")
    done = max([record["step"] for record in read(run.path / "metrics.jsonl")], default=0)
    done = done - done % 10  # the last "checkpoint"
    log.truncate("grpo", done)
    kept.truncate("grpo", done)
    print("ready", flush=True)
    for step in range(done + 1, 10**9):
        with ledger.phase("grpo", "train", step) as entry:
            entry.tokens += 1
            scores = journal.lookup(step, "d")
            if scores is None:
                journal.append(step, "d", [step / 7])
        kept.log("grpo", step, {"prompt": "x" * 500})
        log.log("grpo", step, {"reward": (scores or [step / 7])[0]})
        run.write_status(stage="grpo", step=step)
"""


def test_killed_again_and_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for attempt in range(1, 5):
        command = [sys.executable, "-c", WRITER, str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
        records = metrics.read(run / "metrics.jsonl")
        assert [record["step"] for record in records] == list(range(1, len(records) + 1))
        assert all(record["reward"] == record["step"] / 7 for record in records)
        assert len(records) <= len(samples.read(run / "samples.jsonl")) <= len(records) + 1
        status = read_status(run)
        assert (status["state"], status["attempt"]) == ("interrupted", attempt)
        assert read_config(run)["recipe"]["name"] == "x"
        balance(read_ledger(run / "ledger.jsonl"))
