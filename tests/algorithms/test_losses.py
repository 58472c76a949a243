"""Losses, divergences and reductions: pure functions held against hand-computed values and against each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from farthing.algorithms.divergence import k3
from farthing.algorithms.losses import clipped_surrogate, cross_entropy
from farthing.algorithms.reduction import REDUCTIONS, constant, sequence_mean, token_mean

seeds = st.integers(0, 2**32 - 1)


def random_tokens(seed: int, count: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """(new log-probabilities with gradient, old ones, advantages), float64."""
    generator = torch.Generator().manual_seed(seed)
    new, old, advantages = torch.randn(3, count, generator=generator, dtype=torch.float64)
    return (-new.abs()).requires_grad_(), -(new + 0.4 * old).abs(), advantages


def ratio(value: float) -> Tensor:
    """log-probabilities whose ratio to -1 is `value`."""
    return torch.tensor([math.log(value) - 1.0], dtype=torch.float64, requires_grad=True)


# ratio, advantage, loss, whether the clip binds, gradient by the log-probability; clip 0.2 below and 0.3 above.
CASES = [
    (1.0, 2.0, -2.0, False, -2.0),
    (1.25, 2.0, -2.5, False, -2.5),
    (1.5, 2.0, -2.6, True, 0.0),
    (0.5, 2.0, -1.0, False, -1.0),
    (0.5, -1.0, 0.8, True, 0.0),
    (0.9, -1.0, 0.9, False, 0.9),
    (2.0, -1.0, 2.0, False, 2.0),
    (3.0, 0.0, 0.0, False, 0.0),
]


@pytest.mark.parametrize(("r", "advantage", "loss", "binds", "gradient"), CASES)
def test_clipped_surrogate_by_hand(
    r: float, advantage: float, loss: float, binds: bool, gradient: float
) -> None:
    """A token is pushed up no further than 1.3 and down no further than 0.8, and pulled back from anywhere."""
    new, old = ratio(r), torch.tensor([-1.0], dtype=torch.float64)
    found, clipped = clipped_surrogate(new, old, torch.tensor([advantage], dtype=torch.float64), 0.2, 0.3)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert clipped.item() is binds
    assert new.grad is not None and new.grad.item() == pytest.approx(gradient)


@given(seeds, st.floats(0.01, 0.9))
def test_grpo_is_dapo_with_equal_clips_and_equal_lengths(seed: int, clip: float) -> None:
    """Where all samples are of one length, both reductions are one; clip-higher differs only by its upper bound."""
    new, old, advantages = random_tokens(seed)
    grpo, _ = clipped_surrogate(new, old, advantages, clip, clip)
    dapo, _ = clipped_surrogate(new, old, advantages, clip, clip)
    lengths = [10] * 5
    weights = [torch.tensor(r(lengths, 64)).repeat_interleave(10) for r in (sequence_mean, token_mean)]
    gradients = [
        torch.autograd.grad((w * loss).sum(), new)[0] for w, loss in zip(weights, (grpo, dapo), strict=True)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])
    higher, _ = clipped_surrogate(new, old, advantages, clip, clip + 0.5)
    changed = higher != grpo
    assert ((new - old).exp()[changed] > 1 + clip).all()
    assert (advantages[changed] > 0).all()


@given(seeds)
def test_on_policy_the_gradient_is_that_of_reinforce(seed: int) -> None:
    """At ratio 1 no clip binds, however narrow, and the gradient is the advantage."""
    new, _, advantages = random_tokens(seed)
    loss, clipped = clipped_surrogate(new, new.detach(), advantages, 1e-6, 1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), new)
    torch.testing.assert_close(gradient, -advantages)
    assert not clipped.any()


@given(seeds)
def test_the_surrogate_is_never_better_than_the_unclipped(seed: int) -> None:
    new, old, advantages = random_tokens(seed)
    loss, _ = clipped_surrogate(new, old, advantages, 0.2, 0.28)
    assert (loss >= -(new - old).exp() * advantages - 1e-12).all()


@given(seeds)
def test_k3_is_never_negative_and_zero_only_where_policies_agree(seed: int) -> None:
    new, reference, _ = random_tokens(seed)
    divergence = k3(new, reference)
    assert (divergence >= 0).all()
    assert (k3(new, new.detach()) == 0).all()
    different = (new - reference).abs() > 1e-6
    assert (divergence[different] > 0).all()


def test_k3_by_hand() -> None:
    """Half as likely as in the reference: 2 - log 2 - 1."""
    found = k3(torch.tensor([math.log(0.25)]), torch.tensor([math.log(0.5)]))
    assert found.item() == pytest.approx(1 - math.log(2), abs=1e-6)


def test_k3_is_unbiased() -> None:
    """Its mean under the policy is the divergence: exactly, by summing over all tokens."""
    generator = torch.Generator().manual_seed(0)
    new, reference = torch.randn(2, 30, generator=generator, dtype=torch.float64).log_softmax(-1)
    exact = (new.exp() * (new - reference)).sum()
    torch.testing.assert_close((new.exp() * k3(new, reference)).sum(), exact)


def test_cross_entropy() -> None:
    assert cross_entropy(torch.tensor([-0.5, -2.0])).tolist() == [0.5, 2.0]


lengths = st.lists(st.integers(1, 64), min_size=1, max_size=20)


@given(lengths)
def test_reductions_add_up_to_what_they_say(own: list[int]) -> None:
    """Weights times lengths: 1 per batch for means, the share of the longest possible for the constant."""
    for name in ("sequence", "token"):
        assert math.fsum(w * n for w, n in zip(REDUCTIONS[name](own, 64), own, strict=True)) == pytest.approx(
            1
        )
    total = math.fsum(w * n for w, n in zip(constant(own, 64), own, strict=True))
    assert total == pytest.approx(sum(own) / (len(own) * 64))


@given(lengths)
def test_what_each_reduction_treats_alike(own: list[int]) -> None:
    """GRPO: every sample counts the same. DAPO and Dr. GRPO: every token does."""
    shares = [w * n for w, n in zip(sequence_mean(own, 64), own, strict=True)]
    assert shares == pytest.approx([1 / len(own)] * len(own))
    assert len(set(token_mean(own, 64))) == len(set(constant(own, 64))) == 1


def test_reductions_by_hand() -> None:
    assert sequence_mean([2, 5], 10) == pytest.approx([1 / 4, 1 / 10])
    assert token_mean([2, 5], 10) == pytest.approx([1 / 7, 1 / 7])
    assert constant([2, 5], 10) == pytest.approx([1 / 20, 1 / 20])
