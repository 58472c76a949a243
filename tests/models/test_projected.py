"""Products with published copies: the numbers of the plain cast, to the last bit, and nothing kept without need."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.data.sample import Sample
from farthing.learner.rows import FlatRows
from farthing.models import fused_rows, fused_training
from farthing.models.decoder import Decoder, initialise, twin
from farthing.models.layers import Linear, Projection
from farthing.models.projected import projected, remade
from tests.models.shapes import DENSE

BF16 = torch.bfloat16


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linears(*sizes: int, bias: bool = False) -> list[Linear]:
    made = [Linear(24, size, bias) for size in sizes]
    for seed, layer in enumerate(made):
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(seed))
    return made


def gradients(out: Tensor, x: Tensor, parts: list[Linear]) -> list[Tensor]:
    inputs = [x, *(parameter for part in parts for parameter in part.parameters())]
    return [out.detach(), *torch.autograd.grad(out, inputs, numbers(*out.shape, seed=9).to(out.dtype))]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(32,), (16, 48, 8)])
@pytest.mark.parametrize("shape", [(70, 24), (2, 9, 24)])
def test_the_numbers_of_the_plain_cast(shape: tuple[int, ...], sizes: tuple[int, ...], bias: bool) -> None:
    parts, x = linears(*sizes, bias=bias), numbers(*shape, seed=5).to(BF16).requires_grad_()
    projection = parts[0].projection if len(parts) == 1 else Projection(*parts)
    expected = gradients(F.linear(x, *projection.joined(BF16)), x, parts)
    projection.publish(BF16)
    assert projection.usable(BF16) is projection.copy is not None
    for found, plain in zip(gradients(projection(x), x, parts), expected, strict=True):
        assert found.dtype == plain.dtype and torch.equal(found, plain)


def test_a_copy_of_other_numbers_is_not_used() -> None:
    parts, x = linears(16, 8), numbers(5, 24).to(BF16)
    projection = Projection(*parts)
    projection.publish(BF16)
    with torch.no_grad():
        parts[1].weight.mul_(2.0)
    assert torch.equal(projection(x), F.linear(x, *projection.joined(BF16)))
    projection.publish(BF16)
    assert projection.usable(BF16) is projection.copy


def test_what_is_frozen_passes_gradients_through_its_copy() -> None:
    parts, x = linears(16, 8), numbers(5, 24).to(BF16).requires_grad_()
    for part in parts:
        part.requires_grad_(False)
    projection = Projection(*parts)
    projection.publish(BF16)
    copy = projection.copy
    projection.publish(BF16)
    projection.unpack()
    assert projection.copy is copy, "it is still good, and will not be made anew"
    (found,) = torch.autograd.grad(projection(x).float().sum(), x)
    (plain,) = torch.autograd.grad(F.linear(x, *projection.joined(BF16)).float().sum(), x)
    assert torch.equal(found, plain)


def kept(out: Tensor) -> set[int]:
    """Places in memory of what the graph behind `out` keeps."""
    found, nodes = set(), [out.grad_fn]
    while nodes:
        node = nodes.pop()
        for tensor in getattr(node, "saved_tensors", ()):
            found.add(tensor.data_ptr())
        nodes += [following for following, _ in node.next_functions if following is not None]
    return found


def test_what_can_be_remade_is_not_kept() -> None:
    (part,), x = linears(16), numbers(6, 24).to(BF16).requires_grad_()
    part.projection.publish(BF16)
    assert part.projection.copy is not None and part.projection.copy.weight is not None
    copy = part.projection.copy.weight, None
    plain, tagged = x * 2, remade(x * 2, lambda x: x * 2, x)
    expected, found = (projected(source, copy, [part.weight]) for source in (plain, tagged))
    assert plain.data_ptr() in kept(expected) and tagged.data_ptr() not in kept(found)
    weights = numbers(6, 16).to(BF16)
    alike = (torch.autograd.grad(out, [x, part.weight], weights) for out in (expected, found))
    assert all(torch.equal(one, other) for one, other in zip(*alike, strict=True))


CONFIG = replace(DENSE, vocab_size=64, head_dim=32)


@pytest.mark.skipif(
    fused_training.library() is None or fused_rows.library() is None,
    reason="no C++ compiler, FARTHING_FUSED=0, or no products of bfloat16 pairs",
)
def test_what_a_layer_keeps_of_a_token() -> None:
    """The stream once, what attention adds to it, heads before and after they turn, what they read, gate and up."""
    model = initialise(Decoder(CONFIG), 0)
    model.publish(BF16)
    flat = FlatRows([Sample(list(range(64)), 16, 1.0) for _ in range(4)])
    sizes: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return x

    def bytes_of(layers: int) -> int:
        sizes.clear()
        blocks = model.model.layers
        model.model.layers = blocks[:layers]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            out = model.hidden(flat.token_ids, flat.positions, flat)
        model.model.layers = blocks
        assert out.grad_fn is not None
        return sum(sizes.values())

    added = (bytes_of(3) - bytes_of(2)) / flat.layout.size
    weights = 2 * sum(p.numel() for p in model.model.layers[2].parameters() if p.ndim == 2) / flat.layout.size
    hidden, heads, keys = CONFIG.hidden_size, CONFIG.num_attention_heads, CONFIG.num_key_value_heads
    scales = 4 * (2 + heads + keys)
    turned = 2 * 2 * (heads + 2 * keys) * CONFIG.head_dim
    read, gate_up = 2 * heads * CONFIG.head_dim, 2 * 2 * CONFIG.intermediate_size
    expected = 4 * hidden + 2 * hidden + turned + read + gate_up + scales
    assert added - weights == pytest.approx(expected, rel=0.02)


def test_learning_lets_go_of_what_only_decoding_reads() -> None:
    model = initialise(Decoder(CONFIG), 0)
    model.publish(BF16)

    def packed() -> list[bool]:
        return [projection.copy.packed is not None for projection in model.projections() if projection.copy]

    before, step = packed(), model.step
    model.unpack()
    assert packed() and not any(packed()) and model.step is None
    model.publish(BF16)
    assert packed() == before and (model.step is None) == (step is None)


def test_a_twin_shares_the_copies_of_what_is_frozen() -> None:
    model = initialise(Decoder(CONFIG), 0).requires_grad_(False)
    model.publish(BF16)
    other = twin(model)
    own = model.model.layers[0].self_attn.qkv.copy
    assert own is not None and other.model.layers[0].self_attn.qkv.copy is own
    model.requires_grad_(True)
    assert twin(model).model.layers[0].self_attn.qkv.copy is not own
