"""Gradient invariance: however a batch is cut, packed or ordered, the gradient is that of its rows one by one.

The oracle is float64: there two ways of summing agree to 1e-11 of the largest entry of a parameter's gradient. In
float32 they agree to FLOAT32_BOUND, which is the bound that docs may quote.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from farthing.algorithms.losses import cross_entropy
from farthing.data.sample import Sample
from farthing.learner.api import TokenLoss, Tokens
from farthing.models.config import MLAConfig, MoEConfig
from farthing.models.decoder import Decoder

FLOAT64_BOUND = 1e-11
FLOAT32_BOUND = 2e-5

Grads = dict[str, Tensor]
Gradient = Callable[..., tuple[Grads, dict[str, float]]]
Objective = Callable[[Tokens], TokenLoss]


def one_by_one(
    model: Decoder, samples: list[Sample], objective: Objective, padding: int = 0, temperature: float = 1.0
) -> Grads:
    """Every row alone through the plain model, padded on the right, with nothing of the learner's machinery."""
    model.zero_grad(set_to_none=True)
    for sample in samples:
        ids = torch.tensor([sample.token_ids + [0] * padding])
        logits = model(ids)[0, : len(sample.token_ids)] / temperature
        logprobs = logits.log_softmax(-1)[:-1].gather(-1, ids[0, 1 : len(sample.token_ids)].unsqueeze(-1))[
            :, 0
        ]
        new = logprobs[sample.prompt_len - 1 :]
        streams = [torch.tensor(s, dtype=new.dtype) for s in (sample.rollout_logprobs, sample.ref_logprobs)]
        row = torch.zeros(len(new), dtype=torch.int64)
        given = (torch.full_like(new, sample.advantage), *streams, torch.empty(0))
        tokens = Tokens(new, torch.zeros_like(new), *given, row)
        (objective(tokens).loss * sample.weight).sum().backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return grads


@pytest.mark.parametrize(
    "changes", [{}, {"tie_word_embeddings": False, "attention_bias": True, "qk_norm": False}]
)
@pytest.mark.parametrize("budget", [1, 48, 130, 8192])
def test_any_split_into_microbatches_gives_the_same_gradient(
    budget: int,
    changes: dict[str, object],
    build: Callable[..., Decoder],
    samples_of: Callable[..., list[Sample]],
    gradient: Gradient,
    apart: Callable[[Grads, Grads], float],
    objective: Objective,
) -> None:
    """And so does packing: the oracle knows neither micro-batches nor flat rows, and pads every row otherwise."""
    model, samples = build(**changes).double(), samples_of()
    expected = one_by_one(model, samples, objective, padding=7)
    found, metrics = gradient(model, samples, microbatch_tokens=budget)
    assert found.keys() == dict(model.named_parameters()).keys()
    assert apart(found, expected) < FLOAT64_BOUND
    assert metrics["trained_tokens"] == sum(sample.num_trained for sample in samples)


MLA = MLAConfig(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)
MOE = MoEConfig(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, first_k_dense_replace=1)


@pytest.mark.parametrize(
    "changes",
    [{}, {"qk_norm": False, "attention_bias": True}, {"mla": MLA, "moe": MOE, "qk_norm": False}],
    ids=["grouped heads, norms of queries and keys", "biases", "latents and experts"],
)
@pytest.mark.parametrize("budget", [1, 90, 130, 8192])
def test_a_shared_prompt_has_the_gradient_of_a_repeated_one(
    budget: int,
    changes: dict[str, object],
    build: Callable[..., Decoder],
    groups_of: Callable[..., list[Sample]],
    gradient: Gradient,
    apart: Callable[[Grads, Grads], float],
    objective: Objective,
) -> None:
    """Whole groups in a micro-batch or parts of them; the oracle repeats the prompt in every row."""
    model, samples = build(**changes).double(), groups_of()
    expected = one_by_one(model, samples, objective)
    found, metrics = gradient(model, samples, microbatch_tokens=budget)
    assert apart(found, expected) < FLOAT64_BOUND
    assert metrics["trained_tokens"] == sum(sample.num_trained for sample in samples)


@pytest.mark.parametrize("source", ["samples_of", "groups_of"])
def test_the_float32_bound(
    source: str,
    request: pytest.FixtureRequest,
    build: Callable[..., Decoder],
    gradient: Gradient,
    apart: Callable[[Grads, Grads], float],
    objective: Objective,
) -> None:
    """Other splits, other orders, prompts shared by more or fewer rows, in float32, against float64."""
    samples = request.getfixturevalue(source)()
    exact = one_by_one(build().double(), samples, objective)
    shuffled = samples[:]
    random.Random(1).shuffle(shuffled)
    for budget, rows in ((1, samples), (130, samples), (130, shuffled), (8192, samples[::-1])):
        found, _ = gradient(build(), rows, microbatch_tokens=budget)
        assert apart(found, exact) < FLOAT32_BOUND


def test_the_order_of_samples_does_not_matter(
    build: Callable[..., Decoder],
    samples_of: Callable[..., list[Sample]],
    gradient: Gradient,
    apart: Callable[[Grads, Grads], float],
) -> None:
    model, samples = build().double(), samples_of()
    expected, metrics = gradient(model, samples, microbatch_tokens=100)
    for seed in range(3):
        shuffled = samples[:]
        random.Random(seed).shuffle(shuffled)
        found, again = gradient(model, shuffled, microbatch_tokens=100)
        assert apart(found, expected) < FLOAT64_BOUND
        assert again == pytest.approx(metrics, rel=1e-6)


def test_a_batch_is_the_sum_of_its_parts(
    build: Callable[..., Decoder],
    samples_of: Callable[..., list[Sample]],
    gradient: Gradient,
    apart: Callable[[Grads, Grads], float],
) -> None:
    """Weights decide what a token counts; the learner divides by nothing."""
    model, samples = build().double(), samples_of()
    whole, _ = gradient(model, samples)
    first, _ = gradient(model, samples[:3])
    rest, _ = gradient(model, samples[3:])
    assert apart({name: first[name] + rest[name] for name in whole}, whole) < FLOAT64_BOUND
    doubled, _ = gradient(model, [replace(sample, weight=2 * sample.weight) for sample in samples])
    assert apart({name: 2 * grad for name, grad in whole.items()}, doubled) < FLOAT64_BOUND


def test_rows_do_not_see_each_other(
    build: Callable[..., Decoder],
    samples_of: Callable[..., list[Sample]],
    groups_of: Callable[..., list[Sample]],
) -> None:
    """Log-probabilities of a row are the same whatever lies beside it, and come back in the order given."""
    from farthing.learner.local import LocalLearner
    from farthing.learner.optim import OptimSettings

    model, samples = build().double(), samples_of() + groups_of()
    learner = LocalLearner(model, OptimSettings(), microbatch_tokens=120)
    together = learner.logprobs(samples)
    assert [len(row) for row in together] == [sample.num_trained for sample in samples]
    for sample, found in zip(samples, together, strict=True):
        torch.testing.assert_close(found, learner.logprobs([sample])[0], atol=1e-12, rtol=0)
        logits = model(torch.tensor([sample.token_ids]))[0].log_softmax(-1)
        expected = [
            logits[i - 1, sample.token_ids[i]].item() for i in range(sample.prompt_len, len(sample.token_ids))
        ]
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("temperature", [0.6, 1.7])
def test_the_gradient_is_that_of_the_distribution_sampled_from(
    temperature: float,
    build: Callable[..., Decoder],
    samples_of: Callable[..., list[Sample]],
    gradient: Gradient,
    apart: Callable[[Grads, Grads], float],
    objective: Objective,
) -> None:
    model, samples = build().double(), samples_of()
    found, _ = gradient(model, samples, temperature=temperature)
    assert apart(found, one_by_one(model, samples, objective, temperature=temperature)) < FLOAT64_BOUND


def test_mixtures_and_latents_are_cut_and_packed_alike(
    build: Callable[..., Decoder],
    samples_of: Callable[..., list[Sample]],
    gradient: Gradient,
    apart: Callable[[Grads, Grads], float],
    objective: Objective,
) -> None:
    model = build(mla=MLA, moe=MOE, qk_norm=False).double()
    expected = one_by_one(model, samples_of(), objective)
    for budget in (48, 8192):
        found, _ = gradient(model, samples_of(), microbatch_tokens=budget)
        assert apart(found, expected) < FLOAT64_BOUND


@pytest.mark.parametrize("source", ["samples_of", "groups_of"])
def test_bfloat16_stays_near_float32(
    source: str, request: pytest.FixtureRequest, build: Callable[..., Decoder], gradient: Gradient
) -> None:
    """The compute view is coarse, its gradient points the same way: cosine above 0.99 for every matrix."""

    def learn(tokens: Tokens) -> TokenLoss:
        return TokenLoss(cross_entropy(tokens.logprobs))

    samples = request.getfixturevalue(source)()
    exact, _ = gradient(build(), samples, learn)
    coarse, _ = gradient(build(), samples, learn, compute_dtype=torch.bfloat16)
    for name, expected in exact.items():
        cosine = torch.cosine_similarity(coarse[name].flatten(), expected.flatten(), dim=0)
        assert cosine > 0.99, name
        assert coarse[name].dtype == torch.float32, "masters and their gradients stay float32"
