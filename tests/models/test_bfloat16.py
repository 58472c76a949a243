"""The comparisons with transformers in bfloat16, on the CPU and, where there is one, on a CUDA device.

Tolerances are those of docs/numerics.md. A router may choose differently after a rounding, and then a token's numbers
differ by whole experts; so the distance of logits is the median over tokens, that of gradients is over whole tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from farthing.models.checkpoint import load_model
from farthing.models.config import MoEConfig
from farthing.models.moe import Experts, grouped_linear

Theirs = Callable[[str], tuple[Any, Path]]
LOGITS, GRADIENTS = 2e-2, 1e-1
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    ],
)


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def batch(vocabulary: int) -> Tensor:
    return torch.randint(1, vocabulary, (2, 80), generator=torch.Generator().manual_seed(3))


def test_logits_and_gradients_in_bfloat16(case: str, device: str, theirs: Theirs) -> None:
    from transformers import AutoModelForCausalLM

    directory = theirs(case)[1]
    ours = load_model(directory, dtype="bfloat16")[0].to(device)
    # Its grouped kernel takes no experts whose width is not a multiple of 16 bytes.
    other = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.bfloat16, experts_implementation="eager"
    )
    other = other.eval().to(device)
    ids = batch(ours.config.vocab_size).to(device)
    found, expected = ours(ids).float(), other(ids).logits.float()
    rows = (found - expected).abs().amax(-1) / expected.abs().amax()
    assert rows.median() < LOGITS
    if ours.config.moe is None:
        assert rows.max() < 5 * LOGITS
    for model, logits in ((ours, found), (other, expected)):
        model.zero_grad()
        logits.square().mean().backward()
    wrong = {}
    for name, parameter in other.named_parameters():
        if parameter.requires_grad and ours.config.moe is None:
            reference = parameter.grad.float()
            apart = (ours.get_parameter(name).grad.float() - reference).norm() / reference.norm()
            if apart >= GRADIENTS:
                wrong[name] = apart.item()
    assert not wrong


def test_float32_masters_computed_in_bfloat16_are_close_to_float32(
    case: str, device: str, theirs: Theirs
) -> None:
    model = load_model(theirs(case)[1])[0].to(device)
    ids = batch(model.config.vocab_size).to(device)
    with torch.no_grad():
        expected = model(ids)
        model.publish(torch.bfloat16)
        found = model(ids)
    rows = (found - expected).abs().amax(-1) / expected.abs().amax()
    assert found.dtype == torch.float32 and rows.median() < LOGITS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_grouped_kernel_computes_what_products_one_by_one_would() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([0, 5, 1, 0, 26, 32])
    x = torch.randn(64, 64, generator=generator).bfloat16().cuda().requires_grad_()
    weights = torch.randn(6, 48, 64, generator=generator).bfloat16().cuda().requires_grad_()
    found = grouped_linear(x, weights, counts.cuda())
    expected = grouped_linear(x.cpu().float(), weights.cpu().float(), counts)
    assert (found.cpu() - expected).abs().max() < 2e-2 * expected.abs().max()
    up = torch.randn(64, 48, generator=generator)
    ours = torch.autograd.grad(found, [x, weights], up.bfloat16().cuda())
    other = torch.autograd.grad(expected, [x, weights], up)
    for a, b in zip(ours, other, strict=True):
        assert (a.float().cpu() - b.float().cpu()).abs().max() < 2e-2 * b.float().abs().max()


def test_experts_without_rows_cost_nothing_and_break_nothing(device: str) -> None:
    experts = Experts(16, MoEConfig(8, 2, 8)).to(device)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 16, device=device)
    chosen = torch.tensor([[7, 2], [7, 2], [2, 7]], device=device)
    found = experts(x, torch.full((3, 2), 0.5, device=device), chosen)
    assert found.shape == (3, 16) and found.isfinite().all()
    assert experts(x[:0], torch.zeros(0, 2, device=device), chosen[:0]).shape == (0, 16)
