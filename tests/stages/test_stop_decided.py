"""Samples that are ended once their reward is decided: each is the beginning of the whole one, and what is left out
would have earned nothing but by a second answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from farthing.engine.api import Completion
from farthing.models.decoder import Decoder
from farthing.rollout.collect import assistant_turn, judge
from farthing.rollout.types import Prompt
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.policy import sampling_engine
from farthing.stages.sampling import ask
from farthing.tasks import load
from farthing.tasks.task import Taskset
from farthing.tasks.verifiers.format import read
from farthing.text.tokenizer import Tokenizer

Drawn = tuple[list[Prompt], list[list[Completion]]]
Draw = Callable[..., Drawn]
SHAPE = {"prompts_per_step": 12, "samples_per_prompt": 8, "max_new_tokens": 12}


def writing(model: Decoder, tokenizer: Tokenizer, text: str) -> Decoder:
    """The model, with no tokens left but those of the text."""
    logits, kept = model.logits, torch.full((model.config.vocab_size,), -1e9)
    kept[tokenizer.encode(text, special=True)] = 0.0
    model.logits = lambda hidden: logits(hidden) + kept  # type: ignore[method-assign]
    return model


@pytest.fixture(scope="module")
def draw(fresh_model: Callable[[], Decoder], tokenizer: Tokenizer) -> Draw:
    """Samples of a model that writes tags and what may be an answer in any order, as the stage draws them."""

    def drawn(taskset: Taskset, **keys: Any) -> Drawn:
        config = GrpoConfig.model_validate(SHAPE | keys)
        model = writing(fresh_model(), tokenizer, "<think>3 + 5\n</think><answer>8</answer><|end|>")
        engine = sampling_engine(config, model, tokenizer, config.prompts_per_step)
        problems = [taskset.problem("train", index) for index in range(config.prompts_per_step)]
        return ask(config, taskset, engine, tokenizer, problems, (0, "grpo", 0))

    return drawn


@pytest.fixture(scope="module")
def whole(draw: Draw, task: Taskset) -> Drawn:
    return draw(task, stop_decided=False)


def test_what_is_left_out_would_have_earned_nothing(
    draw: Draw, whole: Drawn, task: Taskset, tokenizer: Tokenizer
) -> None:
    """But by a second answer. The reward of an ended sample is the verdict on its text as it stands."""
    prompts, ended = draw(task)
    rewards = {"accuracy": 1.0, "format": 0.1}
    groups = [judge(tokenizer, prompts, own, task.score_many, rewards) for own in (ended, whole[1])]
    early = {"broken": 0, "length": 0}
    for group, other in zip(*groups, strict=True):
        for one, full in zip(group.rollouts, other.rollouts, strict=True):
            size = one.num_tokens
            assert one.completion.token_ids == full.completion.token_ids[:size]
            assert (
                one.reward
                == task.score(one.text, **group.prompt.problem).parts["accuracy"]
                + 0.1 * read(one.text).well_formed
            )
            if size == full.num_tokens:
                continue
            early[one.completion.finish_reason] += 1
            assert one.text == assistant_turn(tokenizer, group.prompt, one.completion)
            assert one.text == tokenizer.decode(one.completion.token_ids), "no token is dropped from it"
            assert not read(full.text).well_formed
            if one.completion.finish_reason == "broken":
                assert read(one.text).answer is not None
            else:
                assert read(full.text).answer is None and one.is_truncated
                assert full.num_tokens - size <= 3
    assert min(early.values()) > 3, early


@pytest.mark.parametrize(
    "keys",
    [
        {"rewards": {"accuracy": 1.0}},
        {"rewards": {"accuracy": 1.0, "format": 0.0}},
        {"rewards": {"accuracy": 1.0, "format": 0.1, "language": 0.3}},
        {"rewards": {"accuracy": 1.0, "format": 0.1, "preference": 0.3}, "preference": "readable"},
    ],
    ids=["no form", "no weight", "language", "preference"],
)
def test_it_takes_a_reward_for_the_form_and_for_nothing_that_reads_the_whole_turn(
    keys: Any, draw: Draw, whole: Drawn, task: Taskset
) -> None:
    assert draw(task, **keys) == whole


def test_a_part_without_weight_does_not_stand_in_the_way(draw: Draw, task: Taskset) -> None:
    rewards = {"accuracy": 1.0, "format": 0.1, "language": 0.0}
    assert draw(task, rewards=rewards) == draw(task)


def test_it_takes_a_taskset_that_says_its_form(draw: Draw, task: Taskset, whole: Drawn) -> None:
    other = load("countdown")
    other.form = lambda **problem: None  # type: ignore[method-assign, assignment, misc]
    assert draw(other) == whole


def test_what_the_template_begins_is_part_of_the_turn(
    fresh_model: Callable[[], Decoder], tokenizer: Tokenizer, task: Taskset
) -> None:
    """Behind an opened thought an answer takes four tokens more; behind nothing, three."""
    source = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"
    )
    opened = Tokenizer(tokenizer.definition, {**tokenizer.config, "chat_template": source})
    config = GrpoConfig.model_validate(SHAPE)
    for one, fewest in ((tokenizer, 3), (opened, 4)):
        engine = sampling_engine(config, writing(fresh_model(), one, "3 5"), one, 1)
        _, (own,) = ask(config, task, engine, one, [task.problem("train", 0)], (0,))
        assert {len(c.token_ids) for c in own} == {config.max_new_tokens - fewest + 1}
        assert {c.finish_reason for c in own} == {"length"}
