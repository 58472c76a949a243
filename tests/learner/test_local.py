"""The learner's promises beside its gradient: metrics, empty batches, failures that name themselves, equal
continuation from what was saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from farthing.algorithms.losses import cross_entropy
from farthing.data.sample import Sample
from farthing.errors import FarthingError, NumericsError
from farthing.learner.api import TokenLoss, Tokens
from farthing.learner.checkpoint import Checkpoints
from farthing.learner.local import LocalLearner
from farthing.learner.optim import Optimizers, OptimSettings, is_hidden_matrix
from farthing.models.config import MoEConfig
from farthing.models.decoder import Decoder
from farthing.models.moe import Router

Build = Callable[..., Decoder]
Samples = Callable[..., list[Sample]]


def supervised(tokens: Tokens) -> TokenLoss:
    return TokenLoss(cross_entropy(tokens.logprobs))


def weights(model: Decoder) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_metrics_are_means_over_trained_tokens(build: Build, samples_of: Samples) -> None:
    """Loss: the weighted sum. Entropy and the objective's own: means. Names in _max: the largest."""
    model, samples = build().double(), samples_of()
    flat = torch.cat([torch.tensor(row) for row in LocalLearner(model, OptimSettings()).logprobs(samples)])
    entropies = []
    for sample in samples:
        log = model(torch.tensor([sample.token_ids]))[0, sample.prompt_len - 1 : -1].log_softmax(-1)
        entropies.append(-(log.exp() * log).sum(-1))

    def objective(tokens: Tokens) -> TokenLoss:
        loss = cross_entropy(tokens.logprobs)
        return TokenLoss(loss, {"nats": loss, "best_max": tokens.logprobs})

    metrics = LocalLearner(model, OptimSettings(), microbatch_tokens=64).step(samples, objective)
    per_token = torch.cat([torch.full((s.num_trained,), s.weight, dtype=torch.float64) for s in samples])
    assert metrics["loss"] == pytest.approx(float((per_token * -flat).sum()))
    assert metrics["nats"] == pytest.approx(float(-flat.mean()))
    assert metrics["best_max"] == pytest.approx(float(flat.max()))
    assert metrics["entropy"] == pytest.approx(torch.cat(entropies).mean().item())
    assert metrics["trained_tokens"] == len(flat)


def test_a_largest_value_below_zero_is_found(build: Build, samples_of: Samples) -> None:
    """A *_max metric starts from nothing, not from zero."""

    def objective(tokens: Tokens) -> TokenLoss:
        return TokenLoss(cross_entropy(tokens.logprobs), {"far_max": tokens.logprobs - 100.0})

    assert LocalLearner(build(), OptimSettings()).step(samples_of(), objective)["far_max"] < -99


def test_mean_loss_learns_nothing(build: Build, samples_of: Samples) -> None:
    model, samples = build(), samples_of()
    before = weights(model)
    learner = LocalLearner(model, OptimSettings(), microbatch_tokens=64)
    loss = learner.mean_loss(samples, supervised)
    rows = learner.logprobs(samples)
    flat = [value for row in rows for value in row]
    assert loss == pytest.approx(-sum(flat) / len(flat), rel=1e-5)
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_loss_falls(optimizer: str, build: Build, samples_of: Samples) -> None:
    learner = LocalLearner(build(), OptimSettings(optimizer=optimizer, lr=3e-3))
    samples = [Sample(s.token_ids, 1, 1 / 200) for s in samples_of()]
    losses = [learner.step(samples, supervised)["loss"] for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("left_out", [True, False])
def test_a_batch_that_teaches_nothing_changes_nothing_and_says_so(
    left_out: bool, build: Build, samples_of: Samples
) -> None:
    """Not even what momentum and decay would, whether its samples are left out or there: the next step is the one it
    would have been."""
    settings = OptimSettings(optimizer="muon", weight_decay=0.1)
    first, second = (LocalLearner(build(), settings) for _ in range(2))
    for learner in (first, second):
        learner.step(samples_of(), supervised)
    before = weights(first.model)
    batch = [] if left_out else [replace(sample, weight=0.0) for sample in samples_of()]
    metrics = first.step(batch, supervised)
    assert (metrics["loss"], metrics["grad_norm"], metrics["trained_tokens"] == 0) == (0.0, 0.0, left_out)
    assert all(torch.equal(before[name], value) for name, value in weights(first.model).items())
    for learner in (first, second):
        learner.step(samples_of(1), supervised)
    assert all(torch.equal(weights(second.model)[n], value) for n, value in weights(first.model).items())


def test_the_gradient_is_scaled_down_to_the_norm(build: Build, samples_of: Samples) -> None:
    """clip_norm bounds the step's gradient and the metric tells the norm before."""
    settings = OptimSettings(clip_norm=1e-3)
    learner = LocalLearner(build(), settings)
    norms = []
    learner.optimizers.step = lambda scale: norms.append(  # type: ignore[method-assign]
        torch.nn.utils.get_total_norm([p.grad for p in learner.model.parameters()]).item()
    )
    metrics = learner.step(samples_of(), supervised)
    assert metrics["grad_norm"] > 1e-2
    assert norms == [pytest.approx(1e-3, rel=1e-3)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_blew_up_names_step_and_parameter(
    value: float, build: Build, samples_of: Samples
) -> None:
    """And the weights stay what they were, with no gradient left behind."""
    learner = LocalLearner(build(), OptimSettings())
    for _ in range(2):
        learner.step(samples_of(), supervised)
    before = weights(learner.model)
    name = "model.layers.1.self_attn.o_proj.weight"
    hook = dict(learner.model.named_parameters())[name].register_hook(lambda grad: grad + value)
    with pytest.raises(NumericsError, match=rf"step 3: .*non-finite gradient: {name}"):
        learner.step(samples_of(), supervised)
    assert all(torch.equal(before[n], now) for n, now in weights(learner.model).items())
    hook.remove()
    assert all(parameter.grad is None for parameter in learner.model.parameters())
    learner.step(samples_of(), supervised)


def test_a_loss_that_is_not_a_number_is_an_error_too(build: Build, samples_of: Samples) -> None:
    def objective(tokens: Tokens) -> TokenLoss:
        return TokenLoss(cross_entropy(tokens.logprobs).detach() * float("nan") + 0.0 * tokens.logprobs)

    with pytest.raises(NumericsError, match="step 1: loss nan"):
        LocalLearner(build(), OptimSettings()).step(samples_of(), objective)


MIXTURE = MoEConfig(
    n_routed_experts=8,
    num_experts_per_tok=2,
    moe_intermediate_size=16,
    scoring_func="sigmoid",
    selection_bias=True,
)


def test_every_step_moves_the_correction_biases_and_tells_the_load(build: Build, samples_of: Samples) -> None:
    """By the speed, in the direction of an even load; of the tokens of this step alone."""
    learner = LocalLearner(build(moe=MIXTURE), OptimSettings(bias_update_speed=0.25))
    routers = [module for module in learner.model.modules() if isinstance(module, Router)]
    for step in range(2):
        before = [router.e_score_correction_bias.clone() for router in routers]
        metrics = learner.step(samples_of(), supervised)
        assert metrics["moe/max_load"] >= 1 and 0 <= metrics["moe/idle"] < 1 and metrics["moe/load_cv"] > 0
        for router, old in zip(routers, before, strict=True):
            moved = router.e_score_correction_bias - old
            assert set(moved.abs().tolist()) <= {0.0, 0.25} and moved.any(), step
            assert not router.load.any()
    still = LocalLearner(build(moe=MIXTURE), OptimSettings())
    assert "moe/max_load" in still.step(samples_of(), supervised)
    assert not any(m.e_score_correction_bias.any() for m in still.model.modules() if isinstance(m, Router))


def test_biases_of_experts_are_gone_on_with(build: Build, samples_of: Samples) -> None:
    """They are buffers, which no optimizer knows; without them the resumed run routes otherwise."""
    settings = OptimSettings(bias_update_speed=0.25)
    alone = LocalLearner(build(moe=MIXTURE), settings)
    for step in range(2):
        alone.step(samples_of(step), supervised)
    saved = {name: tensor.clone() for name, tensor in alone.state().items()}
    resumed = LocalLearner(build(moe=MIXTURE), settings)
    resumed.load_state(saved, 2)
    found = [learner.step(samples_of(2), supervised) for learner in (alone, resumed)]
    assert found[0] == found[1]
    for name, tensor in alone.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name
    assert sum("e_score_correction_bias" in name for name in saved) == 2
    assert not any(name.endswith((".load", "inv_freq")) for name in saved)


def test_frozen_weights_are_not_saved_again(build: Build, samples_of: Samples) -> None:
    model = build()
    model.model.embed_tokens.weight.requires_grad_(False)
    assert "model.model.embed_tokens.weight" not in LocalLearner(model, OptimSettings()).state()


SHAPES = {
    "plain": {},
    "untied with biases": {"tie_word_embeddings": False, "attention_bias": True},
    "predicting further": {"num_nextn_predict_layers": 1},
}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_every_parameter_is_in_exactly_one_group(
    changes: dict[str, object], optimizer: str, build: Build
) -> None:
    model = build(**changes)
    optimizers = Optimizers(model, OptimSettings(optimizer=optimizer, weight_decay=0.1))
    owners: dict[int, list[str]] = {}
    for owner, _ in optimizers.peaks:
        for group in owner.param_groups:
            for parameter in group["params"]:
                owners.setdefault(id(parameter), []).append(type(owner).__name__)
                decays = group["weight_decay"] > 0
                assert decays == (parameter.ndim >= 2), "gains and biases are not pulled to zero"
    named = dict(model.named_parameters())
    assert sorted(owners) == sorted(id(parameter) for parameter in named.values())
    for name, parameter in named.items():
        inner = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        assert owners[id(parameter)] == ["Muon" if optimizer == "muon" and inner else "AdamW"]
        assert is_hidden_matrix(name, parameter) == inner


def test_frozen_parameters_belong_to_nobody(build: Build) -> None:
    model = build()
    model.model.embed_tokens.weight.requires_grad_(False)
    optimizers = Optimizers(model, OptimSettings(optimizer="muon"))
    assert "model.embed_tokens.weight" not in optimizers.named


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_continuing_from_disk_is_bitwise_the_run_left_alone(
    optimizer: str, dtype: torch.dtype | None, build: Build, samples_of: Samples, tmp_path: Path
) -> None:
    settings = OptimSettings(optimizer=optimizer, weight_decay=0.01)
    alone = LocalLearner(build(), settings, compute_dtype=dtype)
    for step in range(3):
        alone.step(samples_of(step), supervised, lr_scale=0.3 * (step + 1))
    Checkpoints(tmp_path, keep=1).save(3, alone.state(), {})
    saved = Checkpoints(tmp_path, keep=1).latest()
    assert saved is not None
    resumed = LocalLearner(build(initializer_range=0.5), settings, compute_dtype=dtype)
    resumed.load_state(saved.tensors, saved.step)
    for step in range(3, 6):
        found = [learner.step(samples_of(step), supervised, 0.5) for learner in (alone, resumed)]
        assert found[0] == found[1]
    for name, tensor in alone.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name
    assert resumed.logprobs(samples_of(9)) == alone.logprobs(samples_of(9)), (
        "the compute view is fresh as well"
    )


def test_state_of_another_model_is_refused(build: Build, samples_of: Samples) -> None:
    learner = LocalLearner(build(num_hidden_layers=3), OptimSettings())
    learner.step(samples_of(), supervised)
    with pytest.raises(FarthingError, match=r"model\.layers\.2\.\S+, which the model does not have"):
        LocalLearner(build(), OptimSettings()).load_state(learner.state(), 1)
