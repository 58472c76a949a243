"""The worker pool: what goes wrong in a call stays in that call, and is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farthing.errors import TaskError
from farthing.tasks.sandbox import Pool

TARGETS = Path(__file__).with_name("sandbox_targets.py")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(f"{TARGETS}:act", workers=2, seconds=1.0, memory_mb=256)
    yield pool
    pool.close()


def error_of(pool: Pool, action: str, value: object = None) -> str | None:
    (outcome,) = pool.run([{"action": action, "value": value}])
    return outcome.error


def test_results_come_back_in_order_and_printing_does_no_harm(pool: Pool) -> None:
    values = [0, "ü\n\ud800", {"a": [1.5, None]}, "x" * 300_000, True]
    outcomes = pool.run([{"action": "echo", "value": v} for v in values])
    assert [o.value for o in outcomes] == values
    assert [o.error for o in outcomes] == [None] * len(values)
    assert pool.run([]) == []


@pytest.mark.parametrize(
    ("action", "value", "words"),
    [
        ("sleep", 30, "timeout"),
        ("spin", None, "timeout"),
        ("allocate", 2048, "out of memory"),
        ("crash", None, "signal 6"),
        ("quit", None, "exit status 7"),
        ("exit", None, "SystemExit: 3"),
        ("recurse", None, "RecursionError"),
        ("raise", None, "ValueError: a message in two lines"),
        ("huge", 3 << 20, "too large"),
        ("nan", None, "ValueError"),
        ("missing", None, "AssertionError: missing"),
    ],
)
def test_misbehaviour_is_an_error_that_names_it(pool: Pool, action: str, value: object, words: str) -> None:
    start = time.monotonic()
    error = error_of(pool, action, value)
    assert error is not None and words in error
    assert "\n" not in error
    assert time.monotonic() - start < 20
    assert pool.run([{"action": "echo", "value": 1}])[0].value == 1


def test_one_hanging_call_leaves_the_others_alone(pool: Pool) -> None:
    calls = [{"action": "echo", "value": i} for i in range(20)]
    calls[3] = {"action": "sleep", "value": 30}
    calls[11] = {"action": "crash"}
    outcomes = pool.run(calls)
    assert [i for i, o in enumerate(outcomes) if o.error is not None] == [3, 11]


def test_waiting_for_a_worker_is_not_counted(pool: Pool) -> None:
    outcomes = pool.run([{"action": "sleep", "value": 0.3}] * 10)
    assert [o.error for o in outcomes] == [None] * 10


def test_workers_stay_warm_and_a_child_of_a_killed_call_dies_with_it(pool: Pool) -> None:
    first = {o.value for o in pool.run([{"action": "pid"}] * 30)}
    again = {o.value for o in pool.run([{"action": "pid"}] * 30)}
    assert len(first | again) <= 2

    single = Pool(f"{TARGETS}:act", workers=1, seconds=0.5)
    child = single.run([{"action": "child"}])[0].value
    assert Path(f"/proc/{child}").exists() or not Path("/proc").exists()
    single.run([{"action": "sleep", "value": 30}])
    assert gone(child)
    single.close()


def test_a_worker_that_died_while_idle_is_no_calls_fault(pool: Pool) -> None:
    pid = pool.run([{"action": "pid"}])[0].value
    os.kill(pid, 9)
    time.sleep(0.1)
    outcomes = pool.run([{"action": "echo", "value": i} for i in range(4)])
    assert [o.value for o in outcomes] == list(range(4))


def test_reading_standard_input_ends_at_once(pool: Pool) -> None:
    assert pool.run([{"action": "input"}])[0].value == ""


def test_closing_ends_the_processes() -> None:
    pool = Pool(f"{TARGETS}:act", workers=2)
    pids = {o.value for o in pool.run([{"action": "pid"}] * 4)}
    pool.close()
    assert all(map(gone, pids))


@pytest.mark.parametrize("target", ["no.such.module:f", "farthing.errors:nothing", "missing.py:f"])
def test_a_function_that_cannot_be_loaded_is_a_user_error(target: str) -> None:
    with pytest.raises(TaskError, match="cannot be loaded"):
        Pool(target, workers=1).run([{}])


STOPPED = """
import os, signal, sys, threading, time
sys.path.insert(0, {root!r})
from farthing.tasks.sandbox import Pool
pool = Pool({target!r}, workers=1, seconds=0.6)
worker = pool.run([{{"action": "pid"}}])[0].value
print(worker, flush=True)
print(pool.run([{{"action": "sleep", "value": 0.4}}])[0].error, flush=True)
"""


def test_time_in_which_the_whole_program_is_stopped_is_not_counted() -> None:
    root = str(TARGETS.parents[2])
    program = STOPPED.format(root=root, target=f"{TARGETS}:act")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [process.pid, int(process.stdout.readline())]
        time.sleep(0.1)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1.2)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
        assert process.stdout.readline() == "None\n"


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie has), waiting a little: signals take their time."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
