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
from farthing.models.sampling_only import pack
from farthing.models.step import Alike, Rows
from tests.models.shapes import DENSE

pytestmark = pytest.mark.skipif(
    not isinstance(packed(torch.zeros(16, 2, dtype=torch.bfloat16)), Strips),
    reason="no C++ compiler, FARTHING_FUSED=0, or a processor without dot products of bfloat16 pairs",
)
CONFIG = DENSE
LENGTHS = torch.tensor([0, 1, 15, 16, 40, 63, 7, 22, 30])


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def published(
    config: ModelConfig = CONFIG, *, in_8_bits: bool = False, parameters: torch.dtype = torch.float32
) -> Decoder:
    model = initialise(Decoder(config), 3).to(parameters)
    if config.attention_bias:
        for block in model.model.layers:
            for part in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj):
                part.bias.normal_(generator=torch.Generator().manual_seed(4))
    quantise(model) if in_8_bits else pack(model)
    model.publish(torch.bfloat16)
    return model


def filled(config: ModelConfig, rows: int) -> Slots:
    slots = Slots(cached_shapes(config), config.num_hidden_layers, torch.bfloat16)
    slots.reserve(rows, 64)
    for seed, store in enumerate((slots.keys, slots.values)):
        store.copy_(numbers(*store.shape, seed=seed))
    return slots


def tokens_of(rows: int) -> Tensor:
    return torch.arange(rows) * 7 % 16


def rows_of(slots: Slots, lengths: Tensor = LENGTHS, alike: Alike | None = None) -> Rows:
    """The first rows of the slots, which share nothing unless it is said."""
    count = len(lengths)
    apart = Alike.of(np.arange(count), np.zeros(count, np.int64))
    places = np.arange(count)
    return Rows(
        tokens_of(count).numpy(), lengths.numpy(), places, count, alike or apart, slots.keys, slots.values
    )


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
    found = model.step.logits(rows_of(ours))
    monkeypatch.setattr(fused, "library", lambda: None)
    plain = published(config)
    assert plain.step is None
    attend = DecodeAttend(theirs, LENGTHS.numpy())
    ids, positions = (F.pad(x, (0, 16 - rows)).unsqueeze(1) for x in (tokens_of(rows), LENGTHS))
    expected = plain.logits(plain.hidden(ids, positions, attend)[:rows, 0])
    assert found.shape == (rows, config.vocab_size) and found.dtype == expected.dtype == torch.float32
    spread = expected.std()
    assert (found - expected).abs().max() < 0.05 * spread and (found - expected).abs().mean() < 0.005 * spread
    for row, length in enumerate(LENGTHS.tolist()):
        for mine, other in ((ours.keys, theirs.keys), (ours.values, theirs.values)):
            new = (mine[:, row, :, length].float(), other[:, row, :, length].float())
            torch.testing.assert_close(*new, atol=0.05, rtol=0.05)
            assert torch.equal(mine[:, row, :, length + 1 :], other[:, row, :, length + 1 :])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_with_parameters_in_bfloat16_it_is_the_plain_operations(config: ModelConfig) -> None:
    """Those of the same machine, to the last bit: both multiply the same strips. Only logits are not rounded here."""
    model = published(config, parameters=torch.bfloat16)
    ours, theirs = filled(config, 9), filled(config, 9)
    assert model.step is not None
    found = model.step.logits(rows_of(ours))
    ids, attend = tokens_of(len(LENGTHS)).unsqueeze(1), DecodeAttend(theirs, LENGTHS.numpy())
    hidden = model.hidden(ids, LENGTHS.unsqueeze(1), attend)[:, 0]
    expected = hidden.double() @ model.head_weight.double().T
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_in_8_bits_it_is_the_plain_operations_to_the_last_bit(
    config: ModelConfig, parameters: torch.dtype
) -> None:
    """Those of the same machine: their sums are exact, and all else is computed by the same functions."""
    model = published(config, in_8_bits=True, parameters=parameters)
    ours, theirs = filled(config, 9), filled(config, 9)
    assert model.step is not None
    found = model.step.logits(rows_of(ours))
    ids, attend = tokens_of(len(LENGTHS)).unsqueeze(1), DecodeAttend(theirs, LENGTHS.numpy())
    assert torch.equal(found, model.logits(model.hidden(ids, LENGTHS.unsqueeze(1), attend)[:, 0]))
    assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


@pytest.mark.parametrize("vocabulary", [16, 33, 61, 66, 131])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 9])
def test_the_head_is_computed_in_float32(vocabulary: int, rows: int) -> None:
    """One and the same states whatever the head: that of many tokens agrees with any that reads part of it."""
    model = published(replace(CONFIG, vocab_size=vocabulary, tie_word_embeddings=False, num_hidden_layers=1))
    assert model.step is not None and model.lm_head is not None
    lengths = LENGTHS[:rows] % 16
    head, states = model.lm_head.weight, []
    # A head that is one in one channel reads the states channel by channel.
    for channel in range(CONFIG.hidden_size):
        head.zero_()[:, channel] = 1.0
        states.append(model.step.logits(rows_of(filled(CONFIG, rows), lengths))[:, -1])
    states_BC = torch.stack(states, dim=1)
    assert torch.equal(states_BC, states_BC.bfloat16().float()), "rounded like all that passes between layers"
    head.copy_(numbers(*head.shape, seed=8))
    found = model.step.logits(rows_of(filled(CONFIG, rows), lengths))
    torch.testing.assert_close(found, (states_BC.double() @ head.double().T).float(), atol=1e-5, rtol=1e-5)


def test_it_draws_what_its_logits_say() -> None:
    model = published()
    assert model.step is not None
    uniform_B = np.linspace(0.0, 0.999, len(LENGTHS))
    slots, same = filled(CONFIG, len(LENGTHS)), filled(CONFIG, len(LENGTHS))
    tokens_B, logprobs_B = model.step.draw(rows_of(slots), uniform_B)
    expected = fused.draw(model.step.logits(rows_of(same)), torch.from_numpy(uniform_B))
    assert torch.equal(tokens_B, expected[0]) and torch.equal(logprobs_B, expected[1])
    assert len(set(tokens_B.tolist())) > 3


def test_a_row_is_the_same_alone() -> None:
    model, rows = published(), len(LENGTHS)
    assert model.step is not None
    together = model.step.logits(rows_of(filled(CONFIG, rows)))
    for row in range(rows):
        one, own = slice(row, row + 1), filled(CONFIG, rows)
        place = rows_of(own)
        keys, values = own.keys[:, one].contiguous(), own.values[:, one].contiguous()
        only = Alike.of(np.zeros(1, np.int64), np.zeros(1, np.int64))
        first = np.zeros(1, np.int64)
        alone = model.step.logits(Rows(place.tokens[one], place.lengths[one], first, 1, only, keys, values))
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("in_8_bits", [False, True])
def test_tokens_of_one_place_in_one_step_are_those_of_a_step_each(in_8_bits: bool) -> None:
    """In any places, behind rows that have nothing to do with them, to the last bit."""
    model = published(in_8_bits=in_8_bits)
    assert model.step is not None
    ours, theirs = filled(CONFIG, 9), filled(CONFIG, 9)
    texts = {4: (20, [3, 1, 4, 1, 5]), 1: (0, [9, 2]), 8: (48, list(range(16)))}
    runs = [(place, start + i, text[i]) for place, (start, text) in texts.items() for i in range(len(text))]
    single, ends = (
        [(0, 30, 7), (2, 11, 12)],
        {place: start + len(t) - 1 for place, (start, t) in texts.items()},
    )
    last = [run for run in runs if run[1] == ends[run[0]]]
    place_B, length_B, token_B = np.array(
        [*single, *last, *(run for run in runs if run not in last)]
    ).T.copy()
    apart = Alike.of(place_B, np.zeros(len(place_B), np.int64))
    found = model.step.logits(Rows(token_B, length_B, place_B, 5, apart, ours.keys, ours.values))
    assert found.shape == (5, CONFIG.vocab_size)
    for row, (place, length, token) in enumerate([*single, *runs]):
        own = [np.array([number]) for number in (token, length, place)]
        alone = Alike.of(np.zeros(1, np.int64), np.zeros(1, np.int64))
        one = model.step.logits(Rows(*own, 1, alone, theirs.keys, theirs.values))
        if (place, length, token) in [*single, *last]:
            assert torch.equal(one[0], found[[*single, *last].index((place, length, token))]), row
    assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


@pytest.mark.parametrize("own", ["alike", "garbage"])
def test_what_rows_have_in_common_is_read_once(own: str) -> None:
    """Rows of a group read the donor's keys and values in place of their own: to the last bit the same, and what stands
    in their own place is not looked at."""
    model, rows = published(), 7
    assert model.step is not None
    donors, lengths = np.array([0, 1, 0, 3, 1, 0, 6]), torch.tensor([40, 33, 63, 12, 32, 41, 50])
    shared = np.array([32, 16, 32, 0, 16, 32, 48])
    slots, plain = filled(CONFIG, rows), filled(CONFIG, rows)
    alike = Alike.of(donors, shared)
    assert alike.order.tolist() == [0, 2, 5, 1, 4, 3, 6]
    for row, (donor, common) in enumerate(zip(donors.tolist(), shared.tolist(), strict=True)):
        for store, other in ((slots.keys, plain.keys), (slots.values, plain.values)):
            other[:, row, :, :common] = other[:, donor, :, :common]
            if own == "garbage" and donor != row:
                store[:, row, :, :common] = float("nan")
    found = model.step.logits(rows_of(slots, lengths, alike))
    assert torch.equal(found, model.step.logits(rows_of(plain, lengths)))


def test_there_is_a_table_for_as_long_as_the_slots_are() -> None:
    model = published()
    assert model.step is not None
    before = model.step.logits(rows_of(filled(CONFIG, 2), LENGTHS[2:4]))
    longer = Slots(cached_shapes(CONFIG), CONFIG.num_hidden_layers, torch.bfloat16)
    longer.reserve(2, 300)
    for store, short in ((longer.keys, filled(CONFIG, 2).keys), (longer.values, filled(CONFIG, 2).values)):
        store.zero_()[:, :, :, :64] = short
    assert torch.equal(before, model.step.logits(rows_of(longer, LENGTHS[2:4])))
    far = torch.tensor([299, 250])
    found = model.step.logits(rows_of(longer, far))
    attend = DecodeAttend(longer, far.numpy())
    expected = model.logits(model.hidden(tokens_of(2).unsqueeze(1), far.unsqueeze(1), attend)[:, 0])
    assert (found - expected).abs().max() < 0.05 * expected.std()


def test_it_follows_the_weights() -> None:
    model = published()
    rows = rows_of(filled(CONFIG, 2), LENGTHS[:2])
    assert model.step is not None
    before = model.step.logits(rows)
    model.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    model.publish(torch.bfloat16)
    assert model.step is not None
    assert not torch.equal(before, model.step.logits(rows))


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
    rounded = initialise(Decoder(CONFIG), 3)
    rounded.head_dtype = torch.bfloat16
    rounded.publish(torch.bfloat16)
    assert rounded.step is None, "another head"
    narrow = initialise(Decoder(CONFIG), 3).bfloat16()  # and not packed
    narrow.publish(torch.bfloat16)
    assert narrow.step is None, "parameters that are multiplied as they are"
    assert published(replace(CONFIG, intermediate_size=100)).step is None, "half a strip"
    mla = MLAConfig(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)
    assert published(replace(CONFIG, qk_norm=False, mla=mla)).step is None, "latents"
