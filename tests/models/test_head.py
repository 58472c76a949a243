"""Log-probabilities a chunk at a time against the plain path over the whole vocabulary."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models import head
from farthing.models.head import token_logprobs


def plain(
    hidden_MC: Tensor, weight_VC: Tensor, targets_M: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The twin: every logit at once, differentiated by autograd."""
    log_MV = (F.linear(hidden_MC, weight_VC) / temperature).log_softmax(dim=-1)
    entropy_M = -(log_MV.exp() * log_MV).sum(dim=-1)
    return log_MV.gather(-1, targets_M.unsqueeze(-1)).squeeze(-1), entropy_M


def inputs(tokens: int, vocabulary: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, size, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, size, generator=generator).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, vocabulary, (tokens,), generator=generator)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen tokens at a time, so that a few dozen are several chunks and the last one is not full."""
    monkeypatch.setattr(head, "CHUNK_LOGITS", 0)
    monkeypatch.setattr(head, "CHUNK_TOKENS_LEAST", 16)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_written_out_gradient_is_the_derivative(temperature: float) -> None:
    hidden, weight, targets = inputs(19, 7, 3, torch.float64)

    def logprobs(hidden: Tensor, weight: Tensor) -> Tensor:
        return token_logprobs(hidden, weight, targets, dtype=torch.float64, temperature=temperature)[0]

    assert torch.autograd.gradcheck(logprobs, (hidden, weight))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("tokens", [0, 1, 16, 50])
def test_float32_is_the_plain_path(tokens: int, temperature: float) -> None:
    """Values, entropies and gradients within 1e-5 of the largest, whatever the chunks."""
    hidden, weight, targets = inputs(tokens, 130, 24, torch.float32)
    scale = torch.linspace(-1, 2, tokens)
    found = token_logprobs(
        hidden, weight, targets, dtype=torch.float32, temperature=temperature, entropy=True
    )
    expected = plain(hidden, weight, targets, temperature)
    gradients = [torch.autograd.grad((out[0] * scale).sum(), (hidden, weight)) for out in (found, expected)]
    for ours, reference in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        bound = 1e-5 * max(1.0, reference.abs().max().item() if reference.numel() else 0.0)
        torch.testing.assert_close(ours, reference, atol=bound, rtol=0)


def test_entropy_is_computed_only_where_it_is_asked_for() -> None:
    hidden, weight, targets = inputs(5, 9, 4, torch.float32)
    logprobs, entropy = token_logprobs(hidden, weight, targets, dtype=torch.float32)
    assert logprobs.shape == (5,) and entropy.shape == (0,)
    _, entropy = token_logprobs(hidden, weight, targets, dtype=torch.float32, entropy=True)
    assert entropy.shape == (5,) and not entropy.requires_grad


def test_frozen_sides_get_no_gradient() -> None:
    hidden, weight, targets = inputs(5, 9, 4, torch.float64)
    for frozen, free in ((hidden, weight), (weight, hidden)):
        frozen.requires_grad_(False)
        frozen.grad = free.grad = None
        token_logprobs(hidden, weight, targets, dtype=torch.float64)[0].sum().backward()
        ours, free.grad = free.grad, None
        plain(hidden, weight, targets)[0].sum().backward()
        assert frozen.grad is None
        torch.testing.assert_close(ours, free.grad, atol=1e-12, rtol=0)
        frozen.requires_grad_(True)


def test_bfloat16_states_are_read_in_the_head_s_precision() -> None:
    """Logits of bfloat16 states and a float32 head are float32's; gradients point where float32's do."""
    hidden, weight, targets = inputs(64, 130, 24, torch.float32)
    coarse = hidden.detach().bfloat16().requires_grad_()
    exact = coarse.detach().float().requires_grad_()
    found, _ = token_logprobs(coarse, weight, targets, dtype=torch.float32)
    expected, _ = plain(exact, weight, targets)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    ours = torch.autograd.grad(found.sum(), (coarse, weight))
    reference = torch.autograd.grad(expected.sum(), (exact, weight))
    assert ours[1].dtype == torch.float32
    for one, other in zip(ours, reference, strict=True):
        assert torch.cosine_similarity(one.float().flatten(), other.flatten(), dim=0) > 0.999


@pytest.mark.usefixtures("small_chunks")
def test_no_tensor_over_tokens_and_vocabulary_is_kept() -> None:
    """Neither in the graph nor for a moment: the largest allocation is a chunk's."""
    hidden, weight, targets = inputs(2000, 50, 4, torch.float32)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        logprobs, _ = token_logprobs(hidden, weight, targets, dtype=torch.float32)
    assert max(kept) == hidden.numel()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as run:
        logprobs.sum().backward()
    largest = max(event.cpu_memory_usage for event in run.events())
    assert largest < 4 * 2000 * 50 / 4
