"""The recipes for real checkpoints, with tiny random models of the same family: their data is drawn and put into words,
their rewards are given, and every stage that learns takes a step, by the code that a run would use."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from farthing import recipe
from farthing.config import to_toml
from farthing.engine.api import SamplingParams
from farthing.engine.engine import Engine
from farthing.models import families
from farthing.models.checkpoint import load_model, save_model
from farthing.models.decoder import Decoder, initialise
from farthing.pipeline import taskset_of
from farthing.rollout.collect import judge, make_prompt, reward_of, sample
from farthing.runs import metrics
from farthing.stages.config.grpo import GrpoConfig
from farthing.text.tokenizer import Tokenizer

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "hidden_act": "silu",
    "tie_word_embeddings": True, "initializer_range": 0.1,
}  # fmt: skip


def model_of(family: str, tokenizer: Tokenizer, seed: int) -> Decoder:
    shape = families.find(family).read({**SHAPE, "model_type": family, "vocab_size": tokenizer.vocab_size})
    return initialise(Decoder(shape), seed)


@pytest.mark.parametrize(
    ("name", "family"), [("r1_zero", "qwen2"), ("r1_zero", "ernie4_5"), ("r1", "qwen3"), ("r1", "qwen2")]
)
def test_every_stage_of_learning_can_be_asked_and_judged(
    name: str, family: str, tokenizer: Tokenizer
) -> None:
    read = recipe.read(RECIPES / f"{name}.toml")
    engine = Engine(model_of(family, tokenizer, 0), tokenizer)
    tasksets = read.load_tasksets()
    stages = [stage for stage in read.stages if isinstance(stage.config, GrpoConfig)]
    assert stages
    for stage in stages:
        assert isinstance(stage.config, GrpoConfig)
        taskset, rewards = taskset_of(read, tasksets, stage), stage.config.rewards
        problems = [taskset.problem("train", index) for index in range(2)]
        prompts = [make_prompt(tokenizer, taskset, problem) for problem in problems]
        params = SamplingParams(max_new_tokens=4, temperature=stage.config.temperature)
        completions = sample(engine, prompts, 2, params, (0, stage.name))
        groups = judge(tokenizer, prompts, completions, taskset.score_many, rewards)
        assert all(reward is not None for group in groups for reward in group.rewards)
        for problem in problems:
            score = taskset.score(taskset.gold(**problem), **problem)
            reward = reward_of(score, rewards)
            asked = sum(weight for part, weight in rewards.items() if part in score.parts)
            assert reward == pytest.approx(asked, abs=0.1), (
                "a right solution in its own language gets all there is"
            )


# A whole run of each recipe, with everything that is counted made small. A random model never solves a problem, so the
# letters of what it writes are rewarded, and conversations are kept whatever they say.
SMALL: dict[str, dict[str, Any]] = {
    "grpo": {
        "steps": 1, "prompts_per_step": 3, "samples_per_prompt": 4, "max_new_tokens": 12, "preflight": "warn",
        "checkpoint_every": 1,
    },
    "rejection": {
        "problems": 4, "samples_per_prompt": 2, "prompts_per_step": 4, "max_new_tokens": 12, "filters": ["length"],
    },
    "sft": {"conversations_per_step": 4, "heldout_share": 0.0},
    "distill": {
        "steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2, "max_new_tokens": 12, "checkpoint_every": 1,
    },
    "evaluate": {"problems": 2, "samples": 2, "vote_problems": 0, "max_new_tokens": 8},
}  # fmt: skip
REWARD = """
def reward(completion, **row):
    return completion.count("1") / (1 + len(completion))
"""
ADAPTER = {"lora": {"r": 32, "lora_alpha": 32.0}, "lr": 1e-5}  # as r1_zero.toml says in a comment
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "r1_zero": ("r1_zero", "qwen2", {}),
    "r1_zero_adapter": ("r1_zero", "ernie4_5", ADAPTER),
    "r1": ("r1", "qwen3", {}),
    "distill": ("distill", "qwen3", {}),
}
CARRY_OUT = """
import sys
from pathlib import Path
from farthing.cost import hardware
from farthing.pipeline import run_recipe

hardware.measure_gemm = lambda *_: 1e10  # how fast the machine is does not matter, and takes a second to find out
for path in map(Path, sys.argv[1:]):
    run_recipe(path, path.with_suffix(""))
print("done")
"""


def in_small(name: str, folder: Path, model: Path, changed: dict[str, Any]) -> dict[str, Any]:
    """The recipe with its counts, its models and its problems replaced, and all else as it is."""
    data = tomllib.loads((RECIPES / f"{name}.toml").read_text())
    for stage in data["stages"]:
        table = data[stage]
        kind = table.get("kind", stage)
        table |= {"path": str(folder / "student")} if kind == "student" else SMALL[kind]
        table |= changed if kind == "grpo" else {}
    data.pop("tasks", None)
    verifier = f"{folder}/rewards.py:reward"
    data["task"] = {"name": "jsonl", "path": str(folder / "rows.jsonl"), "verifier": verifier, "form": "free"}
    return data | {"model": {"path": str(model)}}


@pytest.fixture(scope="module")
def carried_out(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, on_one_core: Callable[..., str]
) -> Path:
    """A run for each of RUNS, under its name."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "rewards.py").write_text(REWARD)
    rows = [{"question": f"count {n}", "answer": "1"} for n in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_model(model_of("qwen3", tokenizer, 1), tokenizer, folder / "student")
    for run, (name, family, changed) in RUNS.items():
        save_model(model_of(family, tokenizer, 0), tokenizer, folder / f"{run}_base")
        data = in_small(name, folder, folder / f"{run}_base", changed)
        (folder / f"{run}.toml").write_text(to_toml(data))
    on_one_core("-c", CARRY_OUT, *(folder / f"{run}.toml" for run in RUNS))
    return folder


@pytest.mark.parametrize("run", RUNS)
def test_every_stage_of_learning_takes_a_step(run: str, carried_out: Path) -> None:
    """With its own optimizer, loss, rate and adapter: it leaves other weights than it began with."""
    read = recipe.read(carried_out / f"{run}.toml")
    steps = metrics.read(carried_out / run / "metrics.jsonl")
    learning = [stage for stage in read.stages if stage.kind in ("grpo", "sft", "distill")]
    assert learning
    for stage in learning:
        norms = [one["grad_norm"] for one in steps if one["stage"] == stage.name]
        assert norms and all(norm > 0 for norm in norms), stage.name
        settings, model = stage.config.model_dump(), carried_out / run / "stages" / stage.name / "model"
        assert (model / "adapter_model.safetensors").exists() == bool(settings.get("lora"))
        made = carried_out / run / "stages" / settings["model"] / "model"
        began = made if made.exists() else carried_out / f"{run}_base"
        before, after = (load_model(path)[0].state_dict() for path in (began, model))
        moved = [
            name
            for name, value in after.items()
            if "lora_A" not in name and not value.equal(before.get(name, torch.zeros_like(value)))
        ]
        assert moved, stage.name
