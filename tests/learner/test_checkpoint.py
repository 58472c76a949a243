"""Checkpoints on disk: whole or not there. Damage, full disks and kills leave the last good one."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farthing.errors import CheckpointError, UserError
from farthing.learner import checkpoint
from farthing.learner.checkpoint import MANIFEST, STATE, TENSORS, Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {
        "model.a": torch.full((3, 2), value),
        "model.scalar": torch.tensor(value),
        "optimizer.a.step": torch.tensor(7, dtype=torch.int64),
        "model.turned": torch.arange(6.0).view(2, 3).t(),
    }


@pytest.fixture
def store(tmp_path: Path) -> Checkpoints:
    """Checkpoints of steps 1, 2 and 3, all kept."""
    store = Checkpoints(tmp_path / "checkpoints", keep=3)
    for step in (1, 2, 3):
        store.save(step, tensors(step), {"tokens_seen": 10 * step})
    return store


def assert_is(found: checkpoint.Checkpoint | None, step: int) -> None:
    assert found is not None and found.step == step
    assert found.state == {"step": step, "tokens_seen": 10 * step}
    expected = tensors(step)
    assert found.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_what_was_saved_comes_back(store: Checkpoints) -> None:
    assert_is(store.latest(), 3)
    assert store.steps() == [1, 2, 3]
    path = store.directory / "step_00000003"
    assert sorted(file.name for file in path.iterdir()) == sorted([MANIFEST, STATE, TENSORS])
    assert set(json.loads((path / MANIFEST).read_text())) == {TENSORS, STATE}


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    empty = Checkpoints(tmp_path / "nowhere", keep=1)
    assert empty.latest() is None
    assert empty.steps() == []


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 100, 25):
        store.save(step, tensors(step), {"tokens_seen": 10 * step})
    assert store.steps() == [25, 100], "newest by step, not by the time of writing"
    assert_is(store.latest(), 100)


def test_a_step_saved_again_replaces_itself(store: Checkpoints) -> None:
    store.save(3, tensors(30), {"tokens_seen": 30})
    found = store.latest()
    assert found is not None and found.tensors["model.scalar"].item() == 30.0
    assert store.steps() == [1, 2, 3]


def flip(path: Path) -> None:
    """One bit of the last weight; the file is still well-formed."""
    data = bytearray((path / TENSORS).read_bytes())
    data[-1] ^= 1
    (path / TENSORS).write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "tensors cut short": lambda path: os.truncate(path / TENSORS, 100),
    "tensors gone": lambda path: (path / TENSORS).unlink(),
    "state cut short": lambda path: os.truncate(path / STATE, 3),
    "state gone": lambda path: (path / STATE).unlink(),
    "manifest empty": lambda path: (path / MANIFEST).write_text(""),
    "manifest cut short": lambda path: os.truncate(path / MANIFEST, 20),
    "manifest of nothing": lambda path: (path / MANIFEST).write_text("{}"),
    "manifest a list": lambda path: (path / MANIFEST).write_text("[1]"),
    "manifest of other things": lambda path: (path / MANIFEST).write_text('{"tensors.safetensors": 3}'),
    "manifest gone": lambda path: (path / MANIFEST).unlink(),
    "manifest not text": lambda path: (path / MANIFEST).write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_newest_is_passed_over(damage: Callable[[Path], object], store: Checkpoints) -> None:
    damage(store.directory / "step_00000003")
    assert_is(store.latest(), 2)
    damage(store.directory / "step_00000002")
    damage(store.directory / "step_00000001")
    assert store.latest() is None
    store.save(3, tensors(3), {"tokens_seen": 30})
    assert_is(store.latest(), 3)


def test_strangers_in_the_directory_are_left_alone(store: Checkpoints) -> None:
    (store.directory / "step_best").mkdir()
    (store.directory / "step_best" / MANIFEST).write_text("{}")
    (store.directory / "notes.txt").write_text("mine")
    assert store.steps() == [1, 2, 3]
    store.save(4, tensors(4), {"tokens_seen": 40})
    assert (store.directory / "step_best").is_dir() and (store.directory / "notes.txt").exists()


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", ["save_file", "_write_manifest", "wait_for_disk"])
def test_a_full_disk_leaves_the_last_good_one(
    broken: str, store: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that a person understands, nothing half-written left, and the same save works once there is room."""
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, broken, full_disk)
        with pytest.raises(
            CheckpointError, match=r"step_00000004: cannot be written: No space left on device"
        ):
            store.save(4, tensors(4), {"tokens_seen": 40})
    assert issubclass(CheckpointError, UserError)
    assert sorted(path.name for path in store.directory.iterdir()) == [f"step_0000000{n}" for n in (1, 2, 3)]
    assert_is(store.latest(), 3)
    store.save(4, tensors(4), {"tokens_seen": 40})
    assert_is(store.latest(), 4)


def test_the_serialiser_meets_the_end_of_its_room(store: Checkpoints) -> None:
    """The error of the library itself, not one of ours: files may grow to 2,000 bytes and no further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"step_00000004: cannot be written: .*File too large"):
            store.save(4, {"model.a": torch.zeros(5000)}, {"tokens_seen": 40})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_is(store.latest(), 3)
    assert store.steps() == [1, 2, 3]


WRITER = """
import sys
from pathlib import Path
import torch
from farthing.learner.checkpoint import Checkpoints
store = Checkpoints(Path(sys.argv[1]), keep=2)
first = store.latest()
step = first.step if first else 0
print("ready", flush=True)
while True:
    step += 1
    store.save(step, {"w": torch.full((20000,), float(step))}, {"tokens_seen": step})
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    """At any instant the newest whole checkpoint is there and goes on from it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    last = 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0.02, 0.1))
            process.send_signal(signal.SIGKILL)
        found = Checkpoints(tmp_path, keep=2).latest()
        if found is not None:
            assert found.step >= last and found.state["tokens_seen"] == found.step
            assert torch.equal(found.tensors["w"], torch.full((20000,), float(found.step)))
            last = found.step
    assert last > 0
    assert len(list(tmp_path.iterdir())) <= 4, "what a kill left half-written does not pile up"
