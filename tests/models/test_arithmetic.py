"""Closed forms against the thing itself: counted parameters, counted operations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from farthing.models.arithmetic import (
    adapter_parameters,
    decode_flops,
    forward_flops,
    kv_bytes_per_token,
    learning_bytes,
    pair_flops,
    parameter_shapes,
    parameters,
    train_flops,
    weight_bytes,
)
from farthing.models.attention import causal
from farthing.models.config import MLAConfig, ModelConfig, MoEConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.lora import LoraConfig, adapt
from farthing.recipe import read

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

DENSE = ModelConfig(
    vocab_size=400,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=24,
)
CASES = {
    "plain": DENSE,
    "tied": dataclasses.replace(DENSE, tie_word_embeddings=True),
    "biased": dataclasses.replace(DENSE, attention_bias=True),
    "normed": dataclasses.replace(DENSE, qk_norm=True),
    "latent": dataclasses.replace(
        DENSE, num_key_value_heads=4, mla=MLAConfig(20, 14, 10, 12, q_lora_rank=24)
    ),
    "latent-direct": dataclasses.replace(DENSE, num_key_value_heads=4, mla=MLAConfig(20, 14, 10, 12)),
    "mixture": dataclasses.replace(
        DENSE, moe=MoEConfig(8, 3, 32, n_shared_experts=2, first_k_dense_replace=1)
    ),
    "all": dataclasses.replace(
        DENSE,
        num_key_value_heads=4,
        mla=MLAConfig(20, 14, 10, 12),
        moe=MoEConfig(8, 3, 32, scoring_func="sigmoid", selection_bias=True),
        num_nextn_predict_layers=2,
    ),
    "tiny_deepseek": read(RECIPES / "tiny_deepseek.toml").model.shape(vocab_size=329),
}


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_shapes_and_parameters_are_those_of_the_decoder(config: ModelConfig) -> None:
    model = Decoder(config)
    assert parameter_shapes(config) == {
        name: tuple(value.shape) for name, value in model.state_dict().items()
    }
    count = parameters(config)
    assert count.total + count.mtp == sum(value.numel() for value in model.state_dict().values())
    assert weight_bytes(config, "float32") == 4 * count.total


@pytest.mark.parametrize(
    "lora", [LoraConfig(4), LoraConfig(3, experts=True), LoraConfig(5, target_modules=("o_proj",))]
)
@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_adapters_are_as_many_as_they_are(config: ModelConfig, lora: LoraConfig) -> None:
    model = adapt(Decoder(config), lora)
    learns = sum(value.numel() for value in model.parameters() if value.requires_grad)
    modules = None if lora.target_modules == LoraConfig.target_modules else lora.target_modules
    assert adapter_parameters(config, lora.r, modules, experts=lora.experts) == learns


def test_what_learning_takes_by_hand() -> None:
    """Per layer 15 vectors of 96 (4 heads of 24), 64 of them as wide as the stream; 3 of the feed-forward."""
    weights = weight_bytes(DENSE, "float32")
    kept = 3 * (8 * 64 + 7 * 96 + 3 * 96) * 4
    assert learning_bytes(DENSE, 512) == 5.5 * weights + 12 * 2**20 + 512 * kept
    reference = learning_bytes(DENSE, 512, references=1) - learning_bytes(DENSE, 512)
    assert reference == 1.5 * weights
    frozen = 2.5 * weights + 12 * 2**20 + 512 * (kept + 3 * 2 * (64 + 96 + 96) * 4)
    assert learning_bytes(DENSE, 512, learns=0) == frozen
    wide = dataclasses.replace(DENSE, vocab_size=151_936)
    assert learning_bytes(wide, 16384) - learning_bytes(wide, 0) == 16384 * kept, (
        "logits are made a chunk at a time"
    )


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_operations_agree_with_the_counter_of_torch(config: ModelConfig) -> None:
    model, ids = initialise(Decoder(config), 0), torch.zeros(2, 40, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    # The counter knows no causality, so it sees whole squares; fused attention on CPU it does not see at all.
    counted = 3 * forward_flops(config, 80, 40, causal=False)
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.01)


def test_operations_of_the_modules_that_predict_further() -> None:
    config = CASES["all"]
    model, ids = initialise(Decoder(config), 0), torch.zeros(2, 200, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        hidden = model.hidden(ids)
        for state in (hidden, *model.further_hidden(hidden, ids)):
            model.logits(state)
    counted = forward_flops(config, 400, 200, causal=False, mtp=True)
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_operations_of_decoding_are_those_of_one_more_token(config: ModelConfig) -> None:
    """A decoding step beside 64 keys that are there: latents are read as they are."""
    model = initialise(Decoder(config), 0)

    def with_64_before(layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        keys, values = (torch.cat([x.expand(-1, 63, -1, -1), x], dim=1) for x in (keys, values))
        queries = torch.cat([queries.new_zeros(1, 63, *queries.shape[2:]), queries], dim=1)
        return causal(layer, queries, keys, values, scale)[:, -1:]

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model.logits(model.hidden(torch.zeros(1, 1, dtype=torch.int64), attend=with_64_before))
    # The square was computed to have one row of it.
    extra = 63 * 64 * pair_flops(config, absorbed=True)
    assert counter.get_total_flops() - extra == pytest.approx(decode_flops(config, 64), rel=0.01)


def test_causal_rows_cost_what_their_tokens_cost_one_by_one() -> None:
    one_by_one = sum(decode_flops(DENSE, length) for length in range(1, 33))
    assert one_by_one == forward_flops(DENSE, 32, 32)
    assert train_flops(DENSE, 32, 32) == 3 * one_by_one


def test_cache_bytes_of_known_models() -> None:
    qwen = dataclasses.replace(
        DENSE, num_hidden_layers=36, num_key_value_heads=8, num_attention_heads=32, head_dim=128
    )
    assert kv_bytes_per_token(qwen) == 144 * 1024
