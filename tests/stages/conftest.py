"""A model that has learnt nothing, a vocabulary and some problems: enough to go through the motions of a stage."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from farthing.data.countdown_student import CountdownStudent
from farthing.data.sources import as_text
from farthing.engine.api import Completion
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.rollout.types import Group, Prompt, Rollout
from farthing.tasks import load
from farthing.tasks.task import Score, Taskset
from farthing.text import bpe
from farthing.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    student = CountdownStudent(seed=0)
    return bpe.train((as_text(*student.document(index)) for index in range(60)), 320, 2)


@pytest.fixture(scope="session")
def task() -> Taskset:
    return load("countdown")


@pytest.fixture(scope="session")
def fresh_model(tokenizer: Tokenizer) -> Callable[[], Decoder]:
    def make() -> Decoder:
        config = ModelConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            qk_norm=True,
            tie_word_embeddings=True,
            initializer_range=0.15,
        )
        return initialise(Decoder(config), 1)

    return make


def make_group(
    rewards: list[float | None],
    *,
    answers: list[str | None] | None = None,
    lengths: list[int] | None = None,
    reasons: list[str] | None = None,
    prompt_tokens: int = 3,
) -> Group:
    """A judged group; a reward is its accuracy too, None could not be scored."""
    rollouts = []
    for k, reward in enumerate(rewards):
        length = (lengths or [4] * len(rewards))[k]
        reason = (reasons or ["stop"] * len(rewards))[k]
        completion = Completion(str(k), [5 + k] * length, [-1.0] * length, [-1.0] * length, reason, 0)  # type: ignore[arg-type]
        parts = {"format": 1.0} if reward is None else {"accuracy": reward, "format": 1.0}
        answer = (answers or [str(k)] * len(rewards))[k]
        error = "timed out" if reward is None else None
        rollouts.append(Rollout(completion, f"text {k}", Score(reward, parts, answer, error), reward))
    return Group(
        Prompt({"numbers": [1, 2]}, tuple(range(90, 90 + prompt_tokens)), "asked", ""), tuple(rollouts)
    )


@pytest.fixture(scope="session")
def group_of() -> Callable[..., Group]:
    return make_group
