"""On-policy distillation: the divergence of whole models, what it moves, and which teachers are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farthing.data.sample import Sample
from farthing.errors import RecipeError
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.decoder import Decoder, initialise
from farthing.stages import distill
from farthing.stages.distill import check_same_tokens, objective
from farthing.stages.student import check_teachers
from farthing.text import bpe
from farthing.text.tokenizer import Tokenizer

ROWS = [Sample([9, 40, 41, 42, 43, 44], 2, 0.1), Sample([9, 50, 51, 52], 1, 0.1, rollout_logprobs=[])]


def learner(model: Decoder) -> LocalLearner:
    return LocalLearner(model, OptimSettings(lr=1e-2))


def test_the_loss_is_the_divergence_of_the_two_models_on_the_students_tokens(
    fresh_model: Callable[[], Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row, from whole logits; cut into chunks of two tokens it is the same."""
    student, teacher = fresh_model(), initialise(fresh_model(), 2)
    rows = [
        Sample(r.token_ids, r.prompt_len, r.weight, rollout_logprobs=[-1.0] * r.num_trained) for r in ROWS
    ]
    expected = 0.0
    for row in rows:
        ids = torch.tensor([row.token_ids])
        ours, theirs = (
            model(ids)[0, row.prompt_len - 1 : -1].log_softmax(-1) for model in (student, teacher)
        )
        expected += row.weight * (ours.exp() * (ours - theirs)).sum().item()
    metrics = learner(student).step(rows, objective(learner(student), learner(teacher)), 0.0)
    assert metrics["loss"] == pytest.approx(expected, abs=1e-5)
    norm = metrics["grad_norm"]
    monkeypatch.setattr(distill, "CHUNK_LOGITS", 2 * student.config.vocab_size)
    again = learner(student).step(rows, objective(learner(student), learner(teacher)), 0.0)
    assert (again["loss"], again["grad_norm"]) == pytest.approx((expected, norm), rel=1e-4)


def test_a_student_comes_nearer_and_the_teacher_stays(fresh_model: Callable[[], Decoder]) -> None:
    teacher = learner(initialise(fresh_model(), 2))
    student = learner(fresh_model())
    rows = [
        Sample(r.token_ids, r.prompt_len, r.weight, rollout_logprobs=[-1.0] * r.num_trained) for r in ROWS
    ]
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    losses = [student.step(rows, objective(student, teacher), 1.0)["loss"] for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_another_vocabulary_is_refused_with_what_to_do(tokenizer: Tokenizer) -> None:
    check_same_tokens(tokenizer, Tokenizer(tokenizer.definition, tokenizer.config), "distill", "grpo")
    other = bpe.train(["quite another text, with other words in it"], 310)
    with pytest.raises(RecipeError) as caught:
        check_same_tokens(tokenizer, other, "distill", "grpo")
    assert str(caught.value).startswith("[distill]: student and teacher have different tokenizers (")
    assert 'a rejection stage with model = "grpo", and an sft stage on it' in str(caught.value)


def test_it_is_refused_when_the_student_comes_in(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Not after the stages between, which may take days; a stage that teaches another model has no say in it."""
    tokenizer.save(tmp_path)
    recipe = {
        "stages": ["student", "sft", "distill"],
        "sft": {"model": "student"},
        "distill": {"model": "sft", "teacher": "base"},
    }
    check_teachers(recipe, "student", {"base": tmp_path}, tokenizer)
    other = bpe.train(["quite another text, with other words in it"], 310)
    with pytest.raises(RecipeError, match=r"\[distill\]: student and teacher have different tokenizers"):
        check_teachers(recipe, "student", {"base": tmp_path}, other)
    check_teachers(recipe, "student", {}, other)
    check_teachers(recipe | {"sft": {"model": "base"}}, "student", {"base": tmp_path}, other)
