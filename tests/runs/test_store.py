"""The run directory: locked, resumable, and never mistaken for another run."""

import copy
import json
import logging
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farthing.config import fingerprint
from farthing.errors import RunError
from farthing.runs import metrics, samples
from farthing.runs.store import RunDir, is_locked, read_artifact, read_config, read_status

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "seed": 0,
    "stages": ["tokenizer", "pretrain", "grpo", "final_eval"],
    "cost": {"price_per_core_hour": 0.05},
    "tokenizer": {"kind": "tokenizer", "vocab_size": 300},
    "pretrain": {"kind": "pretrain", "steps": 10, "lr": 1e-3},
    "grpo": {"kind": "grpo", "steps": 20},
    "final_eval": {"kind": "evaluate"},
}

CHILD = """
import os, sys, time
from farthing.runs.store import RunDir
run = RunDir.open(sys.argv[1], {"name": "x"})
if sys.argv[2] == "plain":
    os.write(1, b"0\\n")
elif os.fork() == 0:
    os.write(1, b"%d\\n" % os.getpid())
time.sleep(60)
"""


def changed(key: str, value: Any) -> dict[str, Any]:
    recipe = copy.deepcopy(RECIPE)
    table, _, name = key.partition(".")
    recipe[table][name] = value
    return recipe


def grows(key: str, old: Any, new: Any) -> bool:
    return key.startswith("cost.") or (key.endswith(".steps") and new > old)


@contextmanager
def running(path: Path, how: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has the run open, and the worker it forked (0 for "plain")."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), how],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    worker = 0
    with process:
        try:
            assert process.stdout is not None
            worker = int(process.stdout.readline())
            yield process, worker
        finally:
            process.kill()
            if worker:
                os.kill(worker, signal.SIGKILL)


def test_a_new_run_has_everything_a_reader_needs(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "tiny"
    with RunDir.open(path, RECIPE, version="1.2.3") as run:
        assert (run.attempt, run.created, run.extended) == (1, True, [])
        assert read_status(path)["state"] == "running"
        assert is_locked(path)
    config = read_config(path)
    assert config["recipe"] == RECIPE
    assert config["fingerprint"] == fingerprint(RECIPE)
    assert config["version"] == "1.2.3"
    assert tomllib.loads((path / "recipe.toml").read_text()) == RECIPE
    assert not is_locked(path)
    assert read_status(path) == {"state": "finished", "attempt": 1, "stages": {}, "message": ""}


def test_opening_again_is_another_attempt_with_its_own_log(tmp_path: Path) -> None:
    logger = logging.getLogger("farthing.test")
    created = []
    for attempt in (1, 2, 3):
        with RunDir.open(tmp_path, RECIPE) as run:
            assert run.attempt == attempt
            logger.info("this is attempt %d", attempt)
            created.append(read_config(tmp_path)["created"])
    logger.info("nobody listens any more")
    texts = [(tmp_path / "logs" / f"attempt_{attempt}.log").read_text() for attempt in (1, 2, 3)]
    assert [text.count("\n") for text in texts] == [1, 1, 1]
    assert texts[1].endswith("INFO farthing.test: this is attempt 2\n")
    assert len(set(created)) == 1


def test_a_run_in_use_is_refused_naming_the_process(tmp_path: Path) -> None:
    with RunDir.open(tmp_path, RECIPE), pytest.raises(RunError) as caught:
        RunDir.open(tmp_path, RECIPE)
    message = f"{tmp_path} is in use by process {os.getpid()}; wait for it or choose another --run-dir"
    assert str(caught.value) == message


def test_another_process_holds_the_lock_until_it_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, "plain") as (process, _):
        assert is_locked(tmp_path)
        with pytest.raises(RunError, match=f"in use by process {process.pid};"):
            RunDir.open(tmp_path, {"name": "x"})
    assert read_status(tmp_path)["state"] == "interrupted"
    with RunDir.open(tmp_path, {"name": "x"}) as run:
        assert run.attempt == 2


def test_a_forked_worker_does_not_keep_the_lock_of_a_killed_parent(tmp_path: Path) -> None:
    with running(tmp_path, "fork") as (process, worker):
        process.kill()
        process.wait()
        os.kill(worker, 0)  # it lives
        RunDir.open(tmp_path, {"name": "x"}).close()


def test_another_recipe_is_refused_naming_the_first_difference(tmp_path: Path) -> None:
    RunDir.open(tmp_path, RECIPE).close()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(RunError) as caught:
        RunDir.open(tmp_path, changed("pretrain.lr", 0.5), extendable=grows)
    assert str(caught.value) == (
        f"{tmp_path} belongs to another recipe: pretrain.lr is 0.001 there and 0.5 here; choose another --run-dir"
    )
    with pytest.raises(RunError, match=r"grpo\.steps is 20 there and 19 here"):
        RunDir.open(tmp_path, changed("grpo.steps", 19), extendable=grows)
    assert (tmp_path / "config.json").read_bytes() == before
    with RunDir.open(tmp_path, RECIPE) as run:
        assert run.attempt == 2


def finished_run(path: Path) -> None:
    with RunDir.open(path, RECIPE) as run:
        log, kept = metrics.MetricsLog(path / "metrics.jsonl"), samples.SampleLog(path / "samples.jsonl")
        for stage in RECIPE["stages"]:
            (run.stage_dir(stage) / "checkpoint").write_text("x")
            run.write_artifact(stage, "f-" + stage, {}, {"model": f"stages/{stage}/checkpoint"})
            run.write_status(stage=stage, stage_state="finished", step=1, steps=1)
            log.log(stage, 1, {"x": 1.0})
            kept.log(stage, 1, {"prompt": ""})
        log.close()
        kept.close()
        (path / "summary.json").write_text("{}")


def test_more_steps_unfinish_the_stage_and_drop_what_was_made_from_it(tmp_path: Path) -> None:
    finished_run(tmp_path)
    with RunDir.open(tmp_path, changed("grpo.steps", 30), extendable=grows) as run:
        assert run.extended == ["grpo.steps"]
        assert run.is_finished("pretrain", "f-pretrain")
        assert not run.is_finished("pretrain", "another")
        assert run.artifact("grpo") is None
        assert run.artifact("final_eval") is None
        assert set(run.read_status()["stages"]) == {"tokenizer", "pretrain", "grpo"}
    assert (tmp_path / "stages/grpo/checkpoint").exists(), "the extended stage goes on from its checkpoints"
    assert not (tmp_path / "stages/final_eval").exists()
    assert not (tmp_path / "summary.json").exists()
    for log in ("metrics.jsonl", "samples.jsonl"):
        assert [record["stage"] for record in metrics.read(tmp_path / log)] == [
            "tokenizer",
            "pretrain",
            "grpo",
        ]
    assert read_config(tmp_path)["recipe"]["grpo"]["steps"] == 30
    with pytest.raises(RunError, match="is 30 there and 20 here"):
        RunDir.open(tmp_path, RECIPE, extendable=grows)


def test_another_price_touches_no_stage(tmp_path: Path) -> None:
    finished_run(tmp_path)
    with RunDir.open(tmp_path, changed("cost.price_per_core_hour", 0.1), extendable=grows) as run:
        assert run.extended == ["cost.price_per_core_hour"]
        assert all(run.artifact(stage) for stage in RECIPE["stages"])
    assert (tmp_path / "summary.json").exists()


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError) as caught:
        RunDir.open(tmp_path, RECIPE)
    expected = f"{tmp_path} holds thesis.tex and is not a run directory; choose another --run-dir"
    assert str(caught.value) == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match=r"thesis\.tex is a file; choose another --run-dir"):
        RunDir.open(tmp_path / "thesis.tex", RECIPE)
    with pytest.raises(RunError, match=r"cannot be created: Not a directory"):
        RunDir.open(tmp_path / "thesis.tex" / "run", RECIPE)


def test_a_run_killed_before_its_first_file_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    (tmp_path / ".config.json.77.tmp").write_text("{")
    with RunDir.open(tmp_path, RECIPE) as run:
        assert run.created


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (KeyboardInterrupt(), "interrupted", "stopped from the keyboard; the same command goes on"),
        (RunError("disk full"), "failed", "RunError: disk full"),
    ],
)
def test_how_a_run_ended_stands_in_its_status(
    tmp_path: Path, error: BaseException, state: str, message: str
) -> None:
    with pytest.raises(type(error)), RunDir.open(tmp_path, RECIPE) as run:
        run.write_status(stage="pretrain", step=3, steps=10)
        raise error
    status = read_status(tmp_path)
    assert (status["state"], status["message"]) == (state, message)
    assert status["stages"] == {"pretrain": {"state": state, "step": 3, "steps": 10}}


def test_status_keeps_what_is_not_given(tmp_path: Path) -> None:
    with RunDir.open(tmp_path, RECIPE) as run:
        run.write_status(stage="pretrain", step=0, steps=10, message="warming up")
        run.write_status(stage="pretrain", step=1)
        run.write_status(stage="pretrain", stage_state="finished")
        run.write_status(stage="grpo", steps=20)
        assert run.read_status() == {
            "state": "running",
            "attempt": 1,
            "stage": "grpo",
            "message": "warming up",
            "stages": {
                "pretrain": {"state": "finished", "step": 1, "steps": 10},
                "grpo": {"state": "running", "step": 0, "steps": 20},
            },
        }


def test_an_artifact_must_point_at_what_exists(tmp_path: Path) -> None:
    with RunDir.open(tmp_path, RECIPE) as run:
        with pytest.raises(RunError, match=r"stage grpo: its model, .*model, does not exist"):
            run.write_artifact("grpo", "f", {}, {"model": "model"})
        artifact = run.write_artifact("grpo", "f", {"pretrain": "p"}, {})
    assert json.loads((tmp_path / "stages/grpo/artifact.json").read_text()) == artifact
    assert read_artifact(tmp_path, "grpo") == artifact
    assert set(artifact) == {"stage", "fingerprint", "inputs", "outputs", "finished"}


def test_what_is_not_a_run_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run directory \(it has no config\.json\)"):
        read_config(tmp_path)
    assert not is_locked(tmp_path)
