"""A run that goes wrong for real, killed at every instant of going back: it ends as the run left alone, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.kill import result
from farthing.config import to_toml
from farthing.models.checkpoint import save_model
from farthing.models.decoder import Decoder
from farthing.runs import metrics
from farthing.stages.guards import rollbacks
from farthing.text.tokenizer import Tokenizer
from tests.stages.killed_going_back import INSTANTS

SCRIPT = Path(__file__).with_name("killed_going_back.py")


def recipe_of(folder: Path) -> dict[str, Any]:
    """A rate that rises, without momentum, until two updates of one rollout take the learner far from the sampler."""
    return {
        "name": "derailed", "seed": 3, "stages": ["grpo"], "task": {"name": "countdown"},
        "model": {"path": f"{folder}/base"},
        "grpo": {
            "steps": 6, "prompts_per_step": 4, "samples_per_prompt": 4, "max_new_tokens": 12, "updates_per_rollout": 2,
            "preference": "readable", "rewards": {"preference": 1.0}, "kl_coef": 0.1,  # so that every group teaches
            "preflight": "warn",  # a model that has learnt nothing
            "lr": 0.02, "warmup_steps": 8, "betas": [0.0, 0.0], "dtype": "float32", "eval_every": 99,
            "checkpoint_every": 1, "keep_checkpoints": 5, "samples_every": 1,
            "guards": {"window": 3, "mismatch_kl": 0.2, "rollbacks": 6},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, fresh_model: Callable[[], Decoder], tokenizer: Tokenizer
) -> Path:
    folder = tmp_path_factory.mktemp("derailed")
    save_model(fresh_model(), tokenizer, folder / "base")
    config = json.loads((folder / "base/config.json").read_text())
    (folder / "base/config.json").write_text(json.dumps({**config, "max_position_embeddings": 128}))
    (folder / "recipe.toml").write_text(to_toml(recipe_of(folder)))
    return folder


@pytest.fixture(scope="module")
def ends(folder: Path, on_one_core: Callable[..., str]) -> dict[str, list[str]]:
    """How each life ended, by the instant at which the one before it was killed."""
    return dict(json.loads(on_one_core(SCRIPT, folder / "recipe.toml", folder)))


def test_the_run_goes_back_and_on_at_half_the_rate(ends: dict[str, list[str]], folder: Path) -> None:
    assert (ends["alone"], ends["brink"]) == (["done"], ["killed"])
    went = rollbacks(folder / "alone/stages/grpo")
    assert went and 0 < went[0]["to"] < went[0]["step"] - 1, "to a checkpoint that is not the newest"
    assert "sampler and learner disagree" in went[0]["why"]
    records = metrics.read(folder / "alone/metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 7)), "no step is logged twice"
    assert records[-1]["lr"] == pytest.approx(0.02 * 6 / 8 * 0.5 ** len(went))


@pytest.mark.parametrize("instant", [instant.__name__ for instant in INSTANTS])
def test_killed_there_it_ends_as_the_run_left_alone(
    instant: str, ends: dict[str, list[str]], folder: Path
) -> None:
    assert ends[instant] == ["killed", "done"]
    assert result(folder / instant) == result(folder / "alone")
    assert rollbacks(folder / instant / "stages/grpo") == rollbacks(folder / "alone/stages/grpo")
