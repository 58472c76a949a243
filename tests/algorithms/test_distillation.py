"""The divergence to the teacher: by hand, against torch, and against the estimator from sampled tokens."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from farthing.algorithms.distillation import reverse_kl


def logits(seed: int, rows: int = 6, vocabulary: int = 11) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def test_two_coins_by_hand() -> None:
    """A fair student and a teacher of three to one: log 2 - half of log 3 ... = 0.1438 nats."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert reverse_kl(student, teacher).item() == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(0.1438410, abs=1e-6)


def test_it_is_torchs_divergence_with_the_student_in_front() -> None:
    student, teacher = logits(1), logits(2)
    theirs = F.kl_div(
        teacher.log_softmax(-1), student.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    torch.testing.assert_close(reverse_kl(student, teacher), theirs, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(reverse_kl(student, teacher), reverse_kl(teacher, student), atol=1e-3)
    torch.testing.assert_close(reverse_kl(student, student), torch.zeros(6), rtol=0, atol=1e-6)


def test_only_the_student_is_moved_and_towards_the_teacher() -> None:
    student, teacher = logits(1).requires_grad_(), logits(2).requires_grad_()
    before = reverse_kl(student, teacher)
    before.sum().backward()
    assert teacher.grad is None and student.grad is not None
    assert (reverse_kl(student - 0.1 * student.grad, teacher) < before).all()


def test_it_is_the_mean_of_the_sampled_token_estimator() -> None:
    """50,000 draws: the mean lies within five standard errors, which chance exceeds once in two million."""
    student, teacher = logits(3, rows=1)[0], logits(4, rows=1)[0]
    log_s, log_t = student.log_softmax(-1), teacher.log_softmax(-1)
    drawn = torch.multinomial(log_s.exp(), 50_000, True, generator=torch.Generator().manual_seed(0))
    values = (log_s - log_t)[drawn]
    error = values.std().item() / math.sqrt(len(values))
    exact = reverse_kl(student[None], teacher[None]).item()
    assert abs(values.mean().item() - exact) < 5 * error
    assert error > 0
