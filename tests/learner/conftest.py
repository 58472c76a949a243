"""Tiny learners, and batches whose rows have every kind of length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from farthing.algorithms.divergence import k3
from farthing.algorithms.losses import clipped_surrogate
from farthing.data.sample import Sample
from farthing.learner.api import TokenLoss, Tokens
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise

VOCAB = 47


def tiny_model(**changes: object) -> Decoder:
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "qk_norm": True,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    }
    return initialise(Decoder(ModelConfig(**(sizes | changes))), 3)  # type: ignore[arg-type]


def make_samples(
    seed: int = 0, lengths: tuple[int, ...] = (2, 5, 16, 17, 31, 32, 33, 50, 16, 9)
) -> list[Sample]:
    """Rows with all streams, some of them exactly as long as they are rounded to."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for length in lengths:
        ids = torch.randint(0, VOCAB, (length,), generator=generator).tolist()
        prompt = int(torch.randint(1, length, (), generator=generator))
        logprobs = -torch.rand(2, length - prompt, generator=generator, dtype=torch.float64) * 5
        numbers = torch.randn(2, generator=generator, dtype=torch.float64).tolist()
        samples.append(
            Sample(
                ids, prompt, abs(numbers[0]) / length, numbers[1], logprobs[0].tolist(), logprobs[1].tolist()
            )
        )
    return samples


# Length of a prompt: lengths of its completions.
GROUPS = {40: (1, 3, 20, 20), 33: (9, 1), 16: (30, 17, 2)}


def make_groups(seed: int = 0) -> list[Sample]:
    """Samples that share a prompt, and two that share none, in mixed order."""
    generator = torch.Generator().manual_seed(seed)
    samples = make_samples(seed, (50, 6))
    for prompt_len, lengths in GROUPS.items():
        prompt = torch.randint(0, VOCAB, (prompt_len,), generator=generator).tolist()
        for one in make_samples(seed + prompt_len, tuple(length + 1 for length in lengths)):
            length = len(one.token_ids) - 1
            ids = prompt + one.token_ids[1:]
            streams = (-torch.rand(2, length, generator=generator, dtype=torch.float64) * 5).tolist()
            samples.append(Sample(ids, prompt_len, one.weight, one.advantage, *streams))
    return samples[1::2] + samples[::2]


def everything(tokens: Tokens) -> TokenLoss:
    """An objective that reads every stream."""
    loss, clipped = clipped_surrogate(tokens.logprobs, tokens.rollout_logprobs, tokens.advantages, 0.2, 5.0)
    loss = loss + 0.1 * k3(tokens.logprobs, tokens.ref_logprobs) - tokens.logprobs
    return TokenLoss(loss, {"clipped": clipped.float(), "largest_max": tokens.logprobs.detach()})


@dataclass
class Capture:
    """Stands where the optimizers are and keeps the gradient instead of using it."""

    model: Decoder
    gradient: dict[str, Tensor]

    def step(self, scale: float) -> None:
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                self.gradient[name] = parameter.grad.clone()
        self.model.zero_grad(set_to_none=True)


Gradient = Callable[..., tuple[dict[str, Tensor], dict[str, float]]]


def gradient_of(
    model: Decoder, samples: list[Sample], objective: object = everything, **settings: object
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """(gradient by parameter, metrics) of one learner step that changes nothing."""
    learner = LocalLearner(model, OptimSettings(clip_norm=1e30), **settings)  # type: ignore[arg-type]
    capture = Capture(model, {})
    learner.optimizers = capture  # type: ignore[assignment]
    metrics = learner.step(samples, objective)  # type: ignore[arg-type]
    return capture.gradient, metrics


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of any parameter's gradient, relative to that parameter's largest."""
    assert one.keys() == other.keys()
    return max(
        (
            (one[n].double() - other[n].double()).abs().max() / other[n].double().abs().max().clamp(min=1e-30)
        ).item()
        for n in one
    )


@pytest.fixture
def build() -> Callable[..., Decoder]:
    return tiny_model


@pytest.fixture
def samples_of() -> Callable[..., list[Sample]]:
    return make_samples


@pytest.fixture
def groups_of() -> Callable[..., list[Sample]]:
    return make_groups


@pytest.fixture
def gradient() -> Gradient:
    return gradient_of


@pytest.fixture
def apart() -> Callable[[dict[str, Tensor], dict[str, Tensor]], float]:
    return distance


@pytest.fixture
def objective() -> Callable[[Tokens], TokenLoss]:
    return everything
