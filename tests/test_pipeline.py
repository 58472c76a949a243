"""Whole runs in miniature: left alone, killed at random instants, out of disk, interrupted, continued with more steps.
Whatever happens on the way, what comes out is the same, bit for bit.

Runs are processes of their own on one core, because a run fixes the number of threads of its process.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.kill import differences, result
from farthing.cost import ledger
from farthing.models.checkpoint import load_model
from farthing.runs import metrics, samples
from farthing.runs.store import read_status
from farthing.tasks import load

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "tiny.toml"
STEPS = 6
# Documents of one try, so that forty steps are enough to learn the form, and the rewards of a group differ.
MICRO = {
    "task.max_number": 5,
    "model.hidden_size": 48,
    "model.intermediate_size": 64,
    "model.num_attention_heads": 2,
    "model.head_dim": 16,
    "tokenizer.vocab_size": 300,
    "tokenizer.corpus_sample": 100,
    "pretrain.steps": 40,
    "pretrain.tokens_per_step": 512,
    "pretrain.lr": 0.01,
    "pretrain.muon_lr": 0.05,
    "pretrain.warmup_steps": 1,
    "pretrain.checkpoint_every": 10,
    "pretrain.eval_every": 20,
    "pretrain.heldout_documents": 4,
    "pretrain.corpus.longest": 1,
    **{f"{stage}.{key}": value for stage in ("base_eval", "final_eval") for key, value in {
        "problems": 6, "samples": 2, "vote_problems": 2, "vote_samples": 4, "max_new_tokens": 24}.items()},
    "grpo.steps": STEPS,
    "grpo.prompts_per_step": 4,
    "grpo.samples_per_prompt": 4,
    "grpo.max_new_tokens": 24,
    "grpo.updates_per_rollout": 2,
    "grpo.refill_rounds": 1,
    "grpo.overlong_share": 0.5,
    "grpo.kl_coef": 0.01,
    "grpo.reference_every": 3,
    "grpo.checkpoint_every": 2,
    "grpo.eval_every": 2,
    "grpo.eval_problems": 4,
    "grpo.samples_every": 1,
}  # fmt: skip
SETTINGS = [f"{key}={value}" for key, value in MICRO.items()]

# One directory, five lives: the disk is full while pretraining saves, then while learning saves, then Ctrl-C after the
# last evaluation and before its artifact, then an end after four steps, then more steps.
TROUBLES = """
import errno, json, os, sys
from farthing.errors import CheckpointError
from farthing.learner import checkpoint
from farthing.pipeline import run_recipe
from farthing.runs import metrics
from farthing.runs.store import RunDir, read_status

recipe, directory, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
save, write_artifact, said = checkpoint.save_file, RunDir.write_artifact, []

def full(tensors, path):
    if said_stage in str(path) and f"step_{said_step:08d}" in str(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    save(tensors, path)

def interrupted(run, stage, *args):
    if stage == "final_eval":
        raise KeyboardInterrupt
    return write_artifact(run, stage, *args)

checkpoint.save_file = full
for said_stage, said_step in (("pretrain", 20), ("grpo", 4)):
    try:
        run_recipe(recipe, directory, overrides=[*settings, "grpo.steps=4"])
    except CheckpointError as problem:
        said.append([str(problem), read_status(directory)["state"]])
checkpoint.save_file, RunDir.write_artifact = save, interrupted
try:
    run_recipe(recipe, directory, overrides=[*settings, "grpo.steps=4"])
except KeyboardInterrupt:
    said.append(["Ctrl-C", read_status(directory)["state"]])
RunDir.write_artifact = write_artifact
run_recipe(recipe, directory, overrides=[*settings, "grpo.steps=4"])
evaluated = [record for record in metrics.read(f"{directory}/metrics.jsonl") if record["stage"] == "final_eval"]
said.append([sorted(os.listdir(directory)), read_status(directory)["state"], len(evaluated)])
run_recipe(recipe, directory, overrides=settings)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, on_one_core: Callable[..., str]
) -> tuple[Path, dict[str, Any]]:
    """(directory with alone/ and killed_1/, killed_2/, ..., what bench/kill.py says)."""
    work = tmp_path_factory.mktemp("kill")
    overrides = [word for setting in SETTINGS for word in ("--set", setting)]
    arguments = ["--recipe", RECIPE, "--kills", 3, "--per-run", 3, "--work", work, "--json", *overrides]
    return work, json.loads(on_one_core(ROOT / "bench" / "kill.py", *arguments))


@pytest.fixture(scope="module")
def alone(killed: tuple[Path, dict[str, Any]]) -> Path:
    return killed[0] / "alone"


@pytest.fixture(scope="module")
def troubled(alone: Path, on_one_core: Callable[..., str]) -> tuple[Path, list[Any]]:
    """(the run that met every trouble, what it said each time)."""
    directory = alone.parent / "troubled"
    return directory, json.loads(on_one_core("-c", TROUBLES, RECIPE, directory, json.dumps(SETTINGS)))


def test_a_run_killed_at_random_instants_ends_as_the_run_left_alone(
    killed: tuple[Path, dict[str, Any]],
) -> None:
    work, said = killed
    assert said["kills"] == 3
    assert said["different"] == [] and said["differences"] == 0
    attempts = [read_status(directory)["attempt"] for directory in work.glob("killed_*")]
    assert sum(attempts) == 3 + len(attempts), "every kill cost one more attempt"


def test_a_difference_would_be_seen(alone: Path, tmp_path: Path) -> None:
    """One bit of one weight, one metric, one line: the comparison is not blind."""
    expected = result(alone)
    assert len([name for name in expected if name.endswith(".safetensors")]) == 6, (
        "two models at two places each, two checkpoints"
    )
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", alone, copy], check=True)
    assert differences(expected, copy) == []
    weights = copy / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with (copy / "metrics.jsonl").open("a") as log:
        log.write('{"stage": "grpo", "step": 99}\n')
    assert differences(expected, copy) == [
        "copy: metrics of grpo, step 99", "copy: model/model.safetensors", "copy: steps logged"
    ]  # fmt: skip


def test_full_disks_interruptions_and_more_steps_change_nothing(
    alone: Path, troubled: tuple[Path, list[Any]]
) -> None:
    """A finished run of four steps that is continued to six is the run that had six from the beginning."""
    directory, said = troubled
    assert differences(result(alone), directory) == []
    (pretrain, state), (grpo, _), (_, stopped), (files, ended, evaluated) = said
    assert "step_00000020: cannot be written: No space left on device; the checkpoint before it" in pretrain
    assert "step_00000004: cannot be written" in grpo
    assert (state, stopped, ended) == ("failed", "interrupted", "finished")
    assert {"summary.json", "model", "base", "report.html"} <= set(files)
    assert evaluated == 1, "the evaluation that was interrupted behind its last line is logged once"
    assert read_status(directory)["attempt"] == 5


def test_no_step_is_logged_twice_and_none_is_missing(alone: Path, troubled: tuple[Path, list[Any]]) -> None:
    for directory in (*alone.parent.iterdir(), troubled[0]):
        if not directory.is_dir():
            continue
        steps: dict[str, list[int]] = {}
        for record in metrics.read(directory / "metrics.jsonl"):
            steps.setdefault(record["stage"], []).append(record["step"])
        assert steps == {
            "pretrain": list(range(1, 41)), "base_eval": [1], "grpo": list(range(1, STEPS + 1)), "final_eval": [1]
        }, directory.name  # fmt: skip
        kept = Counter(record["step"] for record in samples.read(directory / "samples.jsonl"))
        assert kept == dict.fromkeys(range(1, STEPS + 1), 2)


def test_the_ledger_balances_and_the_summary_is_its_sum(
    alone: Path, troubled: tuple[Path, list[Any]]
) -> None:
    for directory in (alone, troubled[0]):
        entries = ledger.read(directory / "ledger.jsonl")
        ledger.balance(entries)
        summary = json.loads((directory / "summary.json").read_text())
        ends = {entry.attempt: entry.end_s for entry in entries}
        assert summary["wall_s"] == pytest.approx(sum(ends.values()), abs=1e-3)
        by_kind = summary["cost"]["by_kind"].values()
        assert sum(kind["wall_s"] for kind in by_kind) == pytest.approx(summary["wall_s"], abs=1e-3)
        assert summary["tokens"] == sum(entry.tokens for entry in entries) > 0
        assert summary["flops"] == sum(entry.flops for entry in entries) > 0
        assert summary["cost"]["price_per_core_hour"] == 0.04
        wasted = summary["cost"]["waste"]
        assert wasted["dead_groups"]["wall_s"] > 0 and wasted["truncated"]["wall_s"] >= 0
        assert {entry.kind for entry in entries} >= {"train", "generate", "score", "evaluate", "checkpoint"}
        trained = [entry for entry in entries if entry.stage == "pretrain" and entry.kind == "train"]
        assert all(entry.tokens >= 512 for entry in trained)
        drawn = [entry for entry in entries if entry.kind == "generate"]
        assert all(entry.tokens > 0 and entry.flops > 0 for entry in drawn) and len(drawn) >= STEPS
    troubles = {entry.attempt for entry in ledger.read(troubled[0] / "ledger.jsonl")}
    assert troubles == {1, 2, 3, 4, 5}, "every attempt is paid for"


def test_the_summary_is_what_others_read(alone: Path) -> None:
    summary = json.loads((alone / "summary.json").read_text())
    assert summary["stages"] == ["tokenizer", "pretrain", "base_eval", "grpo", "final_eval"]
    assert set(summary["evaluations"]) == {"base", "final"}
    for evaluation in summary["evaluations"].values():
        assert (evaluation["task"], evaluation["n"], evaluation["samples"]) == ("countdown", 6, 2)
        low, high = evaluation["pass@1_interval"]
        assert 0 <= low <= evaluation["pass@1"] <= high <= 1
        assert {"mean_length", "truncated", "unparsable", "pass@4", "cons@4"} <= set(evaluation)
        assert "pass@16" not in evaluation
    assert read_status(alone)["state"] == "finished"


def test_both_models_are_there_and_reinforcement_learning_moved_one(alone: Path) -> None:
    import torch

    (base, tokenizer), (final, _) = load_model(alone / "base"), load_model(alone / "model")
    assert tokenizer is not None and tokenizer.eos_id is not None
    moved = [
        name
        for (name, one), other in zip(base.named_parameters(), final.parameters(), strict=True)
        if not torch.equal(one, other)
    ]
    assert len(moved) == len(list(base.parameters()))


def test_the_first_model_and_the_last_lie_where_everyone_looks(alone: Path) -> None:
    for name, stage in (("base", "pretrain"), ("model", "grpo")):
        made = alone / "stages" / stage / "model"
        card = {"README.md"} if name == "model" else set()
        assert {path.name for path in (alone / name).iterdir()} == {
            path.name for path in made.iterdir()
        } | card
        assert (alone / name / "model.safetensors").samefile(made / "model.safetensors")


def test_every_step_asks_the_next_problems(alone: Path) -> None:
    """Those that replace problems without signal included: none is passed over, none asked twice."""
    task = load("countdown", count=2, max_number=5, max_target=20)
    steps = [record for record in metrics.read(alone / "metrics.jsonl") if record["stage"] == "grpo"]
    drawn = [int(record["groups_drawn"]) for record in steps if "groups_drawn" in record]
    assert len(drawn) == STEPS and set(drawn) <= set(range(4, 9)) and max(drawn) > 4
    for record in samples.read(alone / "samples.jsonl"):
        first = sum(drawn[: record["step"] - 1])
        own = range(first, first + drawn[record["step"] - 1])
        assert record["problem"] in [task.problem("train", index) for index in own]
        advantages = [sample["advantage"] for sample in record["samples"]]
        assert len(advantages) == 4 and sum(advantages) == pytest.approx(0.0, abs=1e-9)


def test_metrics_carry_their_names(alone: Path) -> None:
    """Those that report, dashboard and trackers look for."""
    records = metrics.read(alone / "metrics.jsonl")
    first = next(r for r in records if r["stage"] == "grpo" and r.get("trained_tokens"))
    assert {
        "reward", "reward_std", "frac_reward_zero_std", "pass_rate", "completions/mean_length",
        "completions/clipped_ratio", "completions/unparsable_ratio", "entropy", "clip_ratio/region_mean", "grad_norm",
        "lr", "step_time", "time/generate", "time/score", "time/train", "time/other", "num_tokens", "mismatch/kl",
        "mismatch/ratio_max", "rewards/accuracy", "rewards/format",
    } <= set(first)  # fmt: skip
    evaluated = next(r for r in records if r["stage"] == "grpo" and r["step"] == 2)
    assert {"eval/pass@1", "eval/pass@1_low", "eval/pass@1_high", "eval/mean_length"} <= set(evaluated)
    pretrained = [r for r in records if r["stage"] == "pretrain"]
    assert {"loss", "lr", "grad_norm", "num_tokens", "tokens_per_second", "mfu", "step_time"} <= set(
        pretrained[0]
    )
    assert pretrained[-1]["heldout_loss"] < pretrained[0]["loss"] - 1
    assert first["mismatch/ratio_max"] < 1.5
