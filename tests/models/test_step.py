"""The compiled decoding step against the plain operations, products in strips against the plain product, and what both
promise: a row's numbers depend on that row alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.engine.slots import DecodeAttend, Slots
from farthing.models import fused
from farthing.models.attention import cached_shapes
from farthing.models.config import MLAConfig, ModelConfig, RopeConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.int8 import quantise
from farthing.models.lora import LoraConfig, adapt
from farthing.models.packed import Strips, packed
from farthing.models.step import Alike

pytestmark = pytest.mark.skipif(
    not isinstance(packed(torch.zeros(16, 2, dtype=torch.bfloat16)), Strips),
    reason="no C++ compiler, FARTHING_FUSED=0, or a processor without dot products of bfloat16 pairs",
)
CONFIG = ModelConfig(
    vocab_size=61,
    hidden_size=80,
    intermediate_size=112,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=16,
    qk_norm=True,
    tie_word_embeddings=True,
    initializer_range=0.3,
)
LENGTHS = torch.tensor([0, 1, 15, 16, 40, 63, 7, 22, 30])


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def published(config: ModelConfig = CONFIG, parameters: torch.dtype = torch.float32) -> Decoder:
    model = initialise(Decoder(config), 3).to(parameters)
    if config.attention_bias:
        for block in model.model.layers:
            for part in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj):
                part.bias.normal_(generator=torch.Generator().manual_seed(4))
    # Parameters in the compute dtype are not copied, so only float32 ones have strips for every product.
    model.publish(torch.bfloat16)
    return model


def filled(config: ModelConfig, rows: int) -> Slots:
    slots = Slots(cached_shapes(config), config.num_hidden_layers, torch.bfloat16)
    slots.reserve(rows, 64)
    for seed, store in enumerate((slots.keys, slots.values)):
        store.copy_(numbers(*store.shape, seed=seed))
    return slots


def tokens_of(rows: int) -> Tensor:
    return torch.arange(rows) * 7 % CONFIG.vocab_size


def apart(rows: int) -> Alike:
    """No row shares anything."""
    return Alike.of(np.arange(rows), np.zeros(rows, np.int64))


@pytest.mark.parametrize("outputs", [16, 48, 64, 80, 208])
@pytest.mark.parametrize("rows", [1, 5, 6, 7, 16, 131])
def test_products_in_strips_are_sums_in_float32_rounded_once(rows: int, outputs: int) -> None:
    x, weight, bias = numbers(rows, 70).bfloat16(), numbers(outputs, 70, seed=1).bfloat16(), numbers(outputs)
    exact = x.double() @ weight.double().T
    strips = Strips(weight)
    for b in (None, bias.bfloat16()):
        found, expected = strips(x, b), exact if b is None else exact + b.double()
        # Half a unit in the last of bfloat16's eight places, and what float32 loses on the way.
        torch.testing.assert_close(found.double(), expected, rtol=2.0**-8, atol=1e-4)
    plain = F.linear(x, weight)
    assert (strips(x, None) != plain).float().mean() < 0.02
    alone = torch.cat([strips(row.unsqueeze(0), None) for row in x])
    assert torch.equal(alone, strips(x, None)), "to the last bit"


def test_strips_take_rows_that_lie_apart_and_any_number_of_axes() -> None:
    weight = numbers(32, 24, seed=1).bfloat16()
    wide = numbers(4, 3, 48).bfloat16()
    strips = Strips(weight)
    for x in (wide[..., :24], wide[:, 1, 24:], wide.transpose(0, 1)[..., :24], wide[..., ::2]):
        assert torch.equal(strips(x, None), strips(x.clone(), None)) and strips(x, None).shape[-1] == 32


CONFIGS = {
    "qwen3": CONFIG,
    "no norms of heads": replace(CONFIG, qk_norm=False),
    "biases": replace(CONFIG, qk_norm=False, attention_bias=True),
    "untied": replace(CONFIG, tie_word_embeddings=False),
    "one key head": replace(CONFIG, num_key_value_heads=1),
    "yarn": replace(
        CONFIG,
        rope=RopeConfig(rope_type="yarn", factor=4.0, original_max_position_embeddings=16),
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_step_is_what_the_plain_operations_compute(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = published(config), len(LENGTHS)
    ours, theirs = filled(config, 16), filled(config, 16)
    assert model.step is not None
    found = model.step(tokens_of(rows), LENGTHS, apart(rows), ours.keys, ours.values, 16)
    monkeypatch.setattr(fused, "library", lambda: None)
    plain = published(config)
    assert plain.step is None
    attend = DecodeAttend(theirs, LENGTHS.numpy())
    ids, positions = (F.pad(x, (0, 16 - rows)).unsqueeze(1) for x in (tokens_of(rows), LENGTHS))
    expected = plain.hidden(ids, positions, attend)[:, 0]
    torch.testing.assert_close(found[:rows].float(), expected[:rows].float(), atol=0.05, rtol=0.05)
    assert (found[:rows].float() - expected[:rows].float()).abs().mean() < 0.005
    assert not found[rows:].any(), "rows that nobody asked for"
    for row, length in enumerate(LENGTHS.tolist()):
        for mine, other in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
            new = (mine[:, row, :, length].float(), other[:, row, :, length].float())
            torch.testing.assert_close(*new, atol=0.05, rtol=0.05)
            assert torch.equal(mine[:, row, :, length + 1 :], other[:, row, :, length + 1 :])


def test_a_row_is_the_same_alone() -> None:
    model, rows = published(), len(LENGTHS)
    assert model.step is not None
    slots = filled(CONFIG, rows)
    together = model.step(tokens_of(rows), LENGTHS, apart(rows), slots.keys, slots.values, rows)
    for row in range(rows):
        one, own = slice(row, row + 1), filled(CONFIG, rows)
        keys, values = own.keys[:, one].contiguous(), own.values[:, one].contiguous()
        alone = model.step(tokens_of(rows)[one], LENGTHS[one], apart(1), keys, values, 1)
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("own", ["alike", "garbage"])
def test_what_rows_have_in_common_is_read_once(own: str) -> None:
    """Rows of a group read the donor's keys and values in place of their own: to the last bit the same, and what stands
    in their own place is not looked at."""
    model, rows = published(), 7
    assert model.step is not None
    groups, lengths = np.array([5, 2, 5, 9, 2, 5, 1]), torch.tensor([40, 33, 63, 12, 32, 41, 50])
    shared = np.array([32, 16, 32, 0, 16, 32, 48])
    slots, plain = filled(CONFIG, rows), filled(CONFIG, rows)
    alike = Alike.of(groups, shared)
    assert alike.donors.tolist() == [0, 1, 0, 3, 1, 0, 6]
    assert groups[alike.order].tolist() == sorted(groups.tolist())
    for row, (donor, common) in enumerate(zip(alike.donors.tolist(), shared.tolist(), strict=True)):
        for store, other in ((slots.keys, plain.keys), (slots.values, plain.values)):
            other[:, row, :, :common] = other[:, donor, :, :common]
            if own == "garbage" and donor != row:
                store[:, row, :, :common] = float("nan")
    found = model.step(tokens_of(rows), lengths, alike, slots.keys, slots.values, rows)
    expected = model.step(tokens_of(rows), lengths, apart(rows), plain.keys, plain.values, rows)
    assert torch.equal(found, expected)


def test_it_follows_the_weights() -> None:
    model = published()
    slots = filled(CONFIG, 2)
    lengths, tokens = LENGTHS[:2], tokens_of(2)
    assert model.step is not None
    before = model.step(tokens, lengths, apart(2), slots.keys, slots.values, 2)
    model.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    model.publish(torch.bfloat16)
    assert model.step is not None
    assert not torch.equal(before, model.step(tokens, lengths, apart(2), slots.keys, slots.values, 2))


def test_a_copy_of_a_model_has_no_step_before_it_is_published() -> None:
    twin = copy.deepcopy(published())
    assert twin.step is None
    twin.publish(torch.bfloat16)
    assert twin.step is not None


def test_whatever_is_not_plainly_dense_has_no_step() -> None:
    model = initialise(Decoder(CONFIG), 3)
    model.publish(None)
    assert model.step is None, "float32"
    adapted = initialise(Decoder(CONFIG), 3)
    adapt(adapted, LoraConfig(r=2), 0)
    adapted.publish(torch.bfloat16)
    assert adapted.step is None, "adapters"
    quantised = quantise(initialise(Decoder(CONFIG), 3))
    quantised.publish(torch.bfloat16)
    assert quantised.step is None, "8 bits"
    assert published(replace(CONFIG, intermediate_size=100)).step is None, "half a strip"
    mla = MLAConfig(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)
    assert published(replace(CONFIG, qk_norm=False, mla=mla)).step is None, "latents"
