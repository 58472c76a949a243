"""The recipes for real checkpoints, with tiny random models of the same family: their data is drawn and put into words,
and their rewards are given, by the code that a run would use."""

from __future__ import annotations

from pathlib import Path

import pytest

from farthing import recipe
from farthing.engine.api import SamplingParams
from farthing.engine.engine import Engine
from farthing.models import families
from farthing.models.decoder import Decoder, initialise
from farthing.pipeline import taskset_of
from farthing.rollout.collect import judge, make_prompt, reward_of, sample
from farthing.stages.config.grpo import GrpoConfig
from farthing.text.tokenizer import Tokenizer

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "hidden_act": "silu",
    "tie_word_embeddings": True, "initializer_range": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "family"), [("r1_zero", "qwen2"), ("r1_zero", "ernie4_5"), ("r1", "qwen3"), ("r1", "qwen2")]
)
def test_every_stage_of_learning_can_be_asked_and_judged(
    name: str, family: str, tokenizer: Tokenizer
) -> None:
    read = recipe.read(RECIPES / f"{name}.toml")
    shape = families.find(family).read({**SHAPE, "model_type": family, "vocab_size": tokenizer.vocab_size})
    engine = Engine(initialise(Decoder(shape), 0), tokenizer)
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
