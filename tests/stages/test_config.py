"""What stages can be told: presets under explicit keys, bounds, and what is refused with its reason."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.algorithms.presets import PRESETS
from farthing.config import parse
from farthing.errors import UserError
from farthing.stages.config.base import StageConfig
from farthing.stages.config.distill import DistillConfig
from farthing.stages.config.evaluate import EvaluateConfig
from farthing.stages.config.foreign import FOREIGN
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.config.pretrain import PretrainConfig
from farthing.stages.config.sft import SftConfig
from farthing.stages.config.student import StudentConfig
from farthing.stages.config.tokenizer import TokenizerConfig
from farthing.stages.kinds import KINDS

CONFIGS = {name: kind.config for name, kind in KINDS.items()}
CORPUS: dict[str, Any] = {"corpus": {"source": "countdown_student"}}
DATA: dict[str, Any] = {"data": [{"path": "x.jsonl"}]}
STUDENT: dict[str, Any] = {"model": "small"}
REQUIRED: dict[type[StageConfig], dict[str, Any]] = {
    PretrainConfig: CORPUS,
    SftConfig: DATA,
    DistillConfig: STUDENT,
}


def grpo(**keys: Any) -> GrpoConfig:
    return parse(GrpoConfig, keys, "here")


@pytest.mark.parametrize("config", list(CONFIGS.values()))
def test_every_key_is_described_and_the_extendable_ones_exist(config: type[StageConfig]) -> None:
    for name, field in config.model_fields.items():
        assert field.description, f"{config.__name__}.{name} has no description"
        assert field.description.endswith("."), f"{config.__name__}.{name}"
    assert set(config.model_fields) >= config.EXTENDABLE


def test_only_reinforcement_learning_can_be_extended() -> None:
    # The learning rate of pretraining depends on its number of steps.
    extendable = {name: config.EXTENDABLE for name, config in CONFIGS.items() if config.EXTENDABLE}
    assert extendable == {"grpo": {"steps"}, "distill": {"steps"}}


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_fills_in_and_gives_way(name: str) -> None:
    config = grpo(algorithm=name)
    for key, value in PRESETS[name].items():
        assert getattr(config, key) == value
    assert config.skip_dead_groups is (config.kl_coef == 0)
    explicit = grpo(algorithm=name, advantage="mean", clip_low=0.1, clip_high=0.5, kl_coef=0.0)
    assert (explicit.advantage, explicit.clip_low, explicit.clip_high) == ("mean", 0.1, 0.5)
    assert explicit.skip_dead_groups


def test_the_presets_are_the_algorithms_there_are() -> None:
    with pytest.raises(UserError, match='did you mean "dr_grpo"') as caught:
        grpo(algorithm="dr-grpo")
    assert 'unknown algorithm "dr-grpo"' in str(caught.value)
    described = GrpoConfig.model_fields["algorithm"].description or ""
    assert all(name in described for name in PRESETS)


def test_a_written_out_config_means_the_same() -> None:
    for keys in ({}, {"algorithm": "r1"}, {"algorithm": "dapo", "clip_high": 0.3}):
        config = grpo(**keys)
        assert grpo(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"top_p": 0.9}, "top_p is for talking, not for learning"),
        ({"top_k": 0}, "top_k is for talking, not for learning"),
        ({"kl_coef": 0.1, "skip_dead_groups": True}, "set skip_dead_groups = false"),
        ({"reference_every": 10}, "reference_every needs a reference"),
        ({"selection": "random"}, "selection = \"random\": should be 'in_order' or 'pass_rate'"),
        ({"importance_cap": 0.5}, "importance_cap = 0.5: should be greater than or equal to 1"),
        ({"rewards": {"accuracy": 0.0}}, "every weight is zero"),
        ({"prompts_per_step": 4, "updates_per_rollout": 5}, "needs as many prompts_per_step"),
        ({"samples_per_prompt": 1}, "samples_per_prompt = 1: should be greater than or equal to 2"),
        ({"temperature": 0}, "temperature = 0: should be greater than 0"),
        ({"betas": [0.9]}, "betas.1"),
        ({"betas": [0.9, 1.5]}, "betas.1 = 1.5: should be less than or equal to 1"),
        ({"rewards": {"accuracy": "much"}}, 'rewards.accuracy = "much": should be a valid number'),
        ({"dtype": "float16"}, "dtype = \"float16\": should be 'auto', 'float32' or 'bfloat16'"),
        ({"checkpoint_every": 0}, "checkpoint_every = 0: should be greater than or equal to 1"),
    ],
)
def test_what_cannot_learn_is_refused_with_its_reason(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        grpo(**keys)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FOREIGN)
def test_names_of_other_libraries_are_answered_with_ours(name: str) -> None:
    keys = [key for key in FOREIGN[name] if key in GrpoConfig.model_fields]
    assert keys and name not in GrpoConfig.model_fields
    with pytest.raises(UserError) as caught:
        grpo(**{name: 1})
    assert f'unknown key "{name}"; here it is {keys[0]} (' in str(caught.value)
    assert all(key in str(caught.value) for key in keys) and "\n" not in str(caught.value)


def test_a_stage_is_told_of_no_key_that_it_lacks() -> None:
    with pytest.raises(UserError, match=r"here it is epochs \(.*\) and steps"):
        parse(SftConfig, {"data": [{"path": "x"}], "num_train_epochs": 1}, "here")
    with pytest.raises(UserError) as caught:
        parse(SftConfig, {"data": [{"path": "x"}], "num_generations": 1}, "here")
    assert "samples_per_prompt" not in str(caught.value)


def test_the_names_of_trl_are_trls() -> None:
    config = pytest.importorskip("trl", reason="TRL is not installed").GRPOConfig
    fields = {field.name for field in dataclasses.fields(config)}
    named = {"num_generations", "beta", "max_completion_length", "per_device_train_batch_size", "num_iterations",
             "gradient_accumulation_steps", "epsilon", "epsilon_high", "loss_type", "scale_rewards", "learning_rate",
             "steps_per_generation", "generation_batch_size", "importance_sampling_level", "max_grad_norm"}  # fmt: skip
    assert named <= fields and named <= set(FOREIGN)


@given(st.sampled_from([one for one in CONFIGS.values() if one is not StudentConfig]), st.data())
def test_no_number_may_be_negative(config: type[StageConfig], data: st.DataObject) -> None:
    numbers = [name for name, field in config.model_fields.items() if field.annotation in (int, float)]
    name = data.draw(st.sampled_from(numbers))
    required = REQUIRED.get(config, {})
    with pytest.raises(UserError, match=f"{name} = -1: should be greater than"):
        parse(config, {**required, name: -1}, "here")


def test_the_corpus_names_its_source_and_keeps_its_settings() -> None:
    config = parse(PretrainConfig, {"corpus": {"source": "countdown_student", "lean": 0.3}}, "here")
    assert config.corpus == {"source": "countdown_student", "lean": 0.3}
    for corpus in ({}, {"source": 3}):
        with pytest.raises(UserError, match='corpus: missing key "source"'):
            parse(PretrainConfig, {"corpus": corpus}, "here")
    with pytest.raises(UserError, match='missing key "corpus"'):
        parse(PretrainConfig, {}, "here")


def test_defaults_hold_without_any_key() -> None:
    assert parse(TokenizerConfig, {}, "here").digit_group == 1
    evaluate = parse(EvaluateConfig, {}, "here")
    assert (evaluate.problems, evaluate.samples, evaluate.vote_problems, evaluate.vote_samples) == (
        500,
        4,
        128,
        16,
    )
