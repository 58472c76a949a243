"""The written-out gate against the plain expression that autograd differentiates."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models.swiglu import swiglu


def plain(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def test_the_written_out_gradient_is_the_derivative() -> None:
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(swiglu, (x.requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_plain_expression(dtype: torch.dtype) -> None:
    """Bit for bit forward; gradients to 1e-6 in float32 and to bfloat16's rounding of an intermediate product."""
    generator = torch.Generator().manual_seed(1)
    x = (4 * torch.randn(2, 50, 64, generator=generator)).to(dtype).requires_grad_()
    weight = torch.randn(2, 50, 32, generator=generator).to(dtype)
    assert torch.equal(swiglu(x), plain(x))
    found, expected = (torch.autograd.grad((f(x) * weight).sum(), x)[0] for f in (swiglu, plain))
    bound = 1e-6 if dtype == torch.float32 else 0.01
    assert (found - expected).abs().max() <= bound * expected.abs().max()


def test_only_the_input_is_kept() -> None:
    x = torch.randn(10, 16, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved) or saved, lambda s: s):
        swiglu(x)
    assert [saved.data_ptr() for saved in kept] == [x.data_ptr()]
