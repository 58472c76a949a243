"""Sampler = learner: what the engine says of its tokens is what the learner computes, and faults are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from farthing.engine.api import Completion, SamplingParams
from farthing.engine.engine import Engine
from farthing.errors import NumericsError
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.decoder import Decoder, initialise
from farthing.rollout.collect import make_prompt, sample
from farthing.rollout.types import Prompt
from farthing.stages.agreement import BFLOAT16_MEAN_BOUND, FLOAT32_BOUND, check_agreement
from farthing.tasks.task import Taskset
from farthing.text.tokenizer import Tokenizer

Drawn = tuple[LocalLearner, list[Prompt], list[list[Completion]]]


@pytest.fixture
def drawn(fresh_model: Callable[[], Decoder], tokenizer: Tokenizer, task: Taskset) -> Callable[..., Drawn]:
    """(learner, prompts, completions) as a stage has them, before anything is learnt."""

    def make(temperature: float = 1.0, dtype: torch.dtype | None = None, **settings: int) -> Drawn:
        learner = LocalLearner(fresh_model(), OptimSettings(), compute_dtype=dtype, temperature=temperature)
        prompts = [make_prompt(tokenizer, task, task.problem("train", index)) for index in range(4)]
        params = SamplingParams(max_new_tokens=80, temperature=temperature)
        engine = Engine(learner.model, tokenizer=None, **settings)  # type: ignore[arg-type]
        return learner, prompts, sample(engine, prompts, 4, params, (0, "test"))

    return make


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.5])
def test_float32_agrees_to_the_fourth_digit(temperature: float, drawn: Callable[..., Drawn]) -> None:
    """Also where rows were sent back to wait and computed again in pieces."""
    for settings in ({}, {"cache_tokens": 400, "prefill_tokens": 16}):
        learner, prompts, completions = drawn(temperature, **settings)
        samples = 0
        for prompt, own in zip(prompts, completions, strict=True):
            for one in own:
                assert check_agreement(learner, [prompt], [[one]]) < FLOAT32_BOUND / 10
                samples += 1
        assert samples == 16
        assert check_agreement(learner, prompts, completions) < FLOAT32_BOUND / 10


def test_bfloat16_agrees_on_average(drawn: Callable[..., Drawn]) -> None:
    assert 0 < check_agreement(*drawn(dtype=torch.bfloat16)) < BFLOAT16_MEAN_BOUND


def other_weights(learner: LocalLearner, completions: list[list[Completion]]) -> list[list[Completion]]:
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.mul_(1.01)
    learner.model.publish(learner.compute_dtype)
    return completions


def other_model(learner: LocalLearner, completions: list[list[Completion]]) -> list[list[Completion]]:
    initialise(learner.model, 2)
    learner.model.publish(learner.compute_dtype)
    return completions


def other_temperature(learner: LocalLearner, completions: list[list[Completion]]) -> list[list[Completion]]:
    learner.temperature = 0.9
    return completions


def changed_token(learner: LocalLearner, completions: list[list[Completion]]) -> list[list[Completion]]:
    one = completions[0][0]
    ids = [*one.token_ids[:5], (one.token_ids[5] + 1) % 300, *one.token_ids[6:]]
    return [[replace(one, token_ids=ids), *completions[0][1:]], *completions[1:]]


def changed_end(learner: LocalLearner, completions: list[list[Completion]]) -> list[list[Completion]]:
    one = completions[0][0]
    ids = [*one.token_ids[:-1], (one.token_ids[-1] + 1) % 300]
    return [[replace(one, token_ids=ids), *completions[0][1:]], *completions[1:]]


def shifted(learner: LocalLearner, completions: list[list[Completion]]) -> list[list[Completion]]:
    def shift(one: Completion) -> Completion:
        return replace(one, sampling_logprobs=one.sampling_logprobs[1:] + one.sampling_logprobs[:1])

    return [[shift(one) for one in own] for own in completions]


def stale_view(learner: LocalLearner, completions: list[list[Completion]]) -> list[list[Completion]]:
    """Float32 weights that a bfloat16 sampler has drawn from."""
    learner.model.publish(torch.bfloat16)
    return completions


FAULTS = [
    (other_weights, "from the first token on: look at the weights"),
    (
        other_temperature,
        "in what was drawn from, not in the model: .* \\(the learner's is 0.9\\)",
    ),
    (changed_token, "after the first token: look at the sampler's positions, its cache"),
    (changed_end, "about the last token only: look at how a turn ends"),
    (shifted, "in what was drawn from, not in the model"),
    (stale_view, "from the first token on: look at the weights"),
]


@pytest.mark.parametrize(("fault", "where"), FAULTS)
def test_faults_stop_the_stage(
    fault: Callable[..., list[list[Completion]]], where: str, drawn: Callable[..., Drawn]
) -> None:
    learner, prompts, completions = drawn()
    check_agreement(learner, prompts, completions)
    with pytest.raises(NumericsError, match=f"sampler and learner disagree {where}"):
        check_agreement(learner, prompts, fault(learner, completions))


def test_gross_faults_are_found_in_bfloat16_too(drawn: Callable[..., Drawn]) -> None:
    for fault, where in (
        (other_temperature, "in what was drawn from"),
        (other_model, "from the first token on"),
    ):
        learner, prompts, completions = drawn(dtype=torch.bfloat16)
        with pytest.raises(NumericsError, match=f"sampler and learner disagree {where}"):
            check_agreement(learner, prompts, fault(learner, completions))
