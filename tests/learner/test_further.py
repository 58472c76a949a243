"""The loss of further prediction in packed rows is that of the rows one by one, and so is its gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from farthing.algorithms.losses import cross_entropy
from farthing.data.sample import Sample
from farthing.learner.api import TokenLoss, Tokens
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.config import MLAConfig, MoEConfig
from farthing.models.decoder import Decoder

Grads = dict[str, Tensor]
Gradient = Callable[..., tuple[Grads, dict[str, float]]]

LATENT = {
    "qk_norm": False,
    "tie_word_embeddings": False,
    "mla": MLAConfig(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6),
    "moe": MoEConfig(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
}
WEIGHT = 0.3


def supervised(tokens: Tokens) -> TokenLoss:
    return TokenLoss(cross_entropy(tokens.logprobs))


def one_by_one(model: Decoder, samples: list[Sample], weight: float) -> tuple[Grads, float, float]:
    """(gradient, loss, loss of further prediction): every row alone, equations 24 and 25 as they stand."""
    loss, further = torch.zeros(()), torch.zeros(())
    for sample in samples:
        ids = torch.tensor([sample.token_ids])
        hidden = model.hidden(ids)
        states = [hidden, *(model.further_hidden(hidden, ids) if ids.shape[1] > 2 else [])]
        for depth, state in enumerate(states):
            logprobs = model.logits(state).log_softmax(-1)
            for place in range(state.shape[1]):
                target = place + depth + 1
                if sample.prompt_len <= target < ids.shape[1]:
                    nats = -sample.weight * logprobs[0, place, ids[0, target]]
                    loss, further = (loss, further + nats) if depth else (loss + nats, further)
    further = further / len(model.model.mtp)
    (loss + weight * further).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return grads, loss.item(), further.item()


@pytest.mark.parametrize("changes", [{}, LATENT], ids=["dense", "latent mixture"])
@pytest.mark.parametrize("depths", [1, 2])
def test_packed_rows_are_the_rows_one_by_one(
    depths: int,
    changes: dict[str, object],
    build: Callable[..., Decoder],
    samples_of: Callable[..., list[Sample]],
    gradient: Gradient,
    apart: Callable[[Grads, Grads], float],
) -> None:
    """Rows of 2 and 3 tokens, which the depths run out of, among them."""
    model = build(num_nextn_predict_layers=depths, **changes).double()
    samples = samples_of(lengths=(2, 3, 4, 15, 16, 17, 18, 33, 40))
    expected, loss, further = one_by_one(model, samples, WEIGHT)
    for budget in (1, 48, 8192):
        found, metrics = gradient(
            model, samples, supervised, microbatch_tokens=budget, mtp_loss_weight=WEIGHT
        )
        assert apart(found, expected) < 1e-11
        assert metrics["loss"] == pytest.approx(loss) and metrics["mtp_loss"] == pytest.approx(further)
    assert any(name.startswith(f"model.mtp.{depths - 1}.") for name in expected)


def test_without_a_weight_the_modules_rest(
    build: Callable[..., Decoder], samples_of: Callable[..., list[Sample]]
) -> None:
    model = build(num_nextn_predict_layers=1)
    before = {name: p.clone() for name, p in model.model.mtp.named_parameters()}
    metrics = LocalLearner(model, OptimSettings(optimizer="muon")).step(samples_of(), supervised)
    assert "mtp_loss" not in metrics
    assert all(torch.equal(p, before[name]) for name, p in model.model.mtp.named_parameters())


def test_a_model_without_modules_has_no_such_loss(
    build: Callable[..., Decoder], samples_of: Callable[..., list[Sample]]
) -> None:
    learner = LocalLearner(build(), OptimSettings(), mtp_loss_weight=WEIGHT)
    assert "mtp_loss" not in learner.step(samples_of(), supervised)


def test_the_further_loss_falls(
    build: Callable[..., Decoder], samples_of: Callable[..., list[Sample]]
) -> None:
    learner = LocalLearner(build(num_nextn_predict_layers=1), OptimSettings(lr=3e-3), mtp_loss_weight=WEIGHT)
    samples = [Sample(sample.token_ids, 1, 1 / 200) for sample in samples_of()]
    losses = [learner.step(samples, supervised)["mtp_loss"] for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]
