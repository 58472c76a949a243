"""The reference policy: when it follows, and that a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from farthing.data.sample import Sample
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.decoder import Decoder
from farthing.models.lora import LoraConfig, adapt
from farthing.stages.reference import Reference

SAMPLES = [Sample([5, 6, 7, 8], 2, 1.0), Sample([9, 8, 7, 6, 5], 1, 1.0)]


def moved(model: Decoder) -> Decoder:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    model.publish(None)
    return model


def seen_by(reference: Reference) -> list[list[float]]:
    return [row.ref_logprobs for row in reference.refer(SAMPLES)]


def test_it_follows_only_when_it_is_time(fresh_model: Callable[[], Decoder]) -> None:
    policy = moved(fresh_model())
    expected = LocalLearner(policy, OptimSettings()).logprobs(SAMPLES)
    reference = Reference(LocalLearner(fresh_model(), OptimSettings()), every=3)
    first = seen_by(reference)
    for step in (1, 2):
        reference.follow(policy, step)
        assert seen_by(reference) == first != expected
    reference.follow(policy, 3)
    assert seen_by(reference) == expected
    moved(policy)
    assert seen_by(reference) == expected, "a copy, not the policy itself"


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_beside_an_adapter_it_holds_an_adapter(
    fresh_model: Callable[[], Decoder], dtype: torch.dtype | None
) -> None:
    """Frozen weights and their compute copies are there once; the adapters are the reference's own."""
    policy = LocalLearner(adapt(fresh_model(), LoraConfig(r=2)), OptimSettings(), compute_dtype=dtype)
    reference = Reference.of(policy, every=0)
    first = seen_by(reference)
    assert first == policy.logprobs(SAMPLES)
    mine, own = tensors(policy.model), tensors(reference.learner.model)
    for name, tensor in mine.items():
        assert (tensor.data_ptr() == own[name].data_ptr()) == (".adapter." not in name), name
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    policy.model.publish(dtype)
    assert seen_by(reference) == first != policy.logprobs(SAMPLES)


def tensors(model: Decoder) -> dict[str, torch.Tensor]:
    """Parameters, and the compute copies."""
    copies = [projection.copy for projection in model.projections()]
    views = {
        f"copy {n}": copy.weight
        for n, copy in enumerate(copies)
        if copy is not None and copy.weight is not None
    }
    return dict(model.named_parameters()) | views


def test_a_whole_model_has_a_whole_reference(fresh_model: Callable[[], Decoder]) -> None:
    policy = LocalLearner(fresh_model(), OptimSettings())
    reference = Reference.of(policy, every=0)
    first = seen_by(reference)
    moved(policy.model)
    assert seen_by(reference) == first != policy.logprobs(SAMPLES)


def test_it_never_follows_at_0(fresh_model: Callable[[], Decoder]) -> None:
    reference = Reference(LocalLearner(fresh_model(), OptimSettings()), every=0)
    first = seen_by(reference)
    reference.follow(moved(fresh_model()), 400)
    assert seen_by(reference) == first
    assert reference.state() == {}, "what the stage began with is on disk already"


def test_a_checkpoint_holds_it_bit_for_bit(fresh_model: Callable[[], Decoder]) -> None:
    before = Reference(LocalLearner(fresh_model(), OptimSettings()), every=2)
    before.follow(moved(fresh_model()), 2)
    saved = {name: tensor.clone() for name, tensor in before.state().items()}
    after = Reference(LocalLearner(fresh_model(), OptimSettings()), every=2)
    assert seen_by(after) != seen_by(before)
    after.load_state(saved | {"model.norm.weight": torch.zeros(1)})
    assert seen_by(after) == seen_by(before)
