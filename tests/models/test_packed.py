"""Packed weights: the same numbers as the plain product, to the last bit, whatever the number of rows."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from farthing.models.layers import Linear, Projection
from farthing.models.packed import Packed, packed

WEIGHT = torch.randn(96, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
needs_packing = pytest.mark.skipif(packed(WEIGHT) is None, reason="this processor has no bfloat16 in oneDNN")


@needs_packing
@pytest.mark.parametrize("shape", [(1, 64), (16, 64), (5, 7, 64), (300, 64)])
@torch.no_grad()
def test_packing_changes_no_bit(shape: tuple[int, ...]) -> None:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    bias = torch.randn(96, generator=torch.Generator().manual_seed(2)).bfloat16()
    weight = Packed(WEIGHT)  # what `packed` gives where there are no strips, which test_step.py has
    assert torch.equal(weight(x, None), F.linear(x, WEIGHT))
    assert torch.equal(copy.deepcopy(weight)(x, bias), weight(x, bias))
    torch.testing.assert_close(weight(x, bias), F.linear(x, WEIGHT, bias), atol=1e-2, rtol=1e-2)


def linear(seed: int) -> Linear:
    layer = Linear(64, 96)
    torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    return layer


@needs_packing
def test_a_published_copy_is_packed_and_follows_the_weights() -> None:
    first, second, lone = linear(1), linear(2), linear(1)
    both = Projection(first, second)
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    for factor in (1.0, 2.0):
        with torch.no_grad():
            for layer in (first, lone):
                layer.weight.mul_(factor)
            for projection in (both, lone.projection, first.projection):
                projection.publish(torch.bfloat16)
            assert lone.projection.copy is not None and lone.projection.copy.packed is not None
            assert torch.equal(lone(x), first(x))
            assert first.projection.copy is None, "it is never multiplied by itself"
            assert torch.equal(first(x), F.linear(x, first.weight.bfloat16()))
            assert torch.equal(both(x), torch.cat((first(x), F.linear(x, second.weight.bfloat16())), dim=-1))
        assert torch.equal(first(x).detach(), F.linear(x, first.weight.bfloat16())), "with gradients too"
    lone.projection.publish(torch.float32)
    assert lone.projection.copy is None, "weights that need no copy are not doubled"


def test_what_cannot_be_packed_is_left_as_it_is() -> None:
    for weight in (WEIGHT.float(), WEIGHT.to("meta"), WEIGHT[:0]):
        assert packed(weight) is None
