"""Rotary embedding: frequencies of every kind against transformers, and when YaRN is in force."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from farthing.models.config import MLAConfig, ModelConfig, RopeConfig
from farthing.models.decoder import Decoder
from farthing.models.families import family_of
from farthing.models.rope import inverse_frequencies, rotary_tables, rotate, softmax_factor, table_factor

LLAMA3 = RopeConfig(5e5, False, "llama3", 8.0, 8192, 1.0, 4.0)
YARN = RopeConfig(1e4, True, "yarn", 40.0, 4096, mscale=1.0, mscale_all_dim=1.0)


@pytest.mark.parametrize(
    ("rope", "channels"),
    [
        (LLAMA3, 128),
        (YARN, 64),
        (dataclasses.replace(YARN, mscale=0.707, mscale_all_dim=0.707), 64),
        (RopeConfig(1e6, False, "yarn", 4.0, 32768), 128),
        (
            RopeConfig(
                1e4, False, "yarn", 4.0, 64, beta_fast=8.0, beta_slow=0.25, mscale=1.0, mscale_all_dim=0.4
            ),
            16,
        ),
        (RopeConfig(1e6, False, "yarn", 4.0, 32768, attention_factor=1.5), 32),
    ],
)
def test_frequencies_and_factors_are_those_of_transformers(rope: RopeConfig, channels: int) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    skipped = {"interleaved", "yarn_beyond_original_only"}
    given = {k: v for k, v in vars(rope).items() if k not in skipped and v is not None}
    if rope.rope_type == "yarn":
        given = {key: value for key, value in given.items() if "freq_factor" not in key}
    else:
        given = {key: value for key, value in given.items() if "beta" not in key}
    config = LlamaConfig(head_dim=channels, max_position_embeddings=163840, rope_parameters=given)
    expected, factor = ROPE_INIT_FUNCTIONS[rope.rope_type](config, "cpu")
    torch.testing.assert_close(inverse_frequencies(rope, channels), expected, rtol=1e-6, atol=0)
    assert table_factor(rope) == pytest.approx(factor)


def test_published_constants_of_deepseek() -> None:
    assert softmax_factor(YARN) == pytest.approx(1.87385, abs=1e-5)
    assert softmax_factor(dataclasses.replace(YARN, mscale=0.707, mscale_all_dim=0.707)) == pytest.approx(
        1.58963, abs=1e-5
    )
    frequencies, plain = inverse_frequencies(YARN, 64), inverse_frequencies(RopeConfig(1e4), 64)
    kept = (frequencies == plain).nonzero().max().item()
    divided = ((frequencies * 40 / plain - 1).abs() < 1e-6).nonzero().min().item()
    assert (kept, divided) == (10, 23)


def latent_config(positions: int, rope: RopeConfig) -> ModelConfig:
    return ModelConfig(
        50, 16, 20, 1, 2, 2, 12, max_position_embeddings=positions, rope=rope, mla=MLAConfig(8, 6, 8, 6)
    )


def test_yarn_waits_for_longer_positions_in_the_authors_code_only() -> None:
    """DeepSeek's code applies it iff the longest position exceeds the original length, transformers always."""
    authors = dataclasses.replace(YARN, yarn_beyond_original_only=True)
    plain = inverse_frequencies(RopeConfig(1e4), 8)
    stretched = inverse_frequencies(YARN, 8)
    assert not torch.equal(plain, stretched)
    for rope, positions, expected, factor in (
        (authors, 4096, plain, 1.0),
        (authors, 4097, stretched, softmax_factor(YARN)),
        (YARN, 4096, stretched, softmax_factor(YARN)),
    ):
        model = Decoder(latent_config(positions, rope))
        assert torch.equal(model.inv_freq, expected)
        assert model.model.layers[0].self_attn.scale == pytest.approx(14**-0.5 * factor)


def test_who_waits_is_a_fact_of_the_family() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": scaling,
    }
    latent = {
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 6,
        "qk_rope_head_dim": 8,
        "v_head_dim": 6,
        "n_routed_experts": 4,
    }
    latent |= {"num_experts_per_tok": 2, "moe_intermediate_size": 8, "n_group": 2, "topk_group": 1}
    for data, waits in (
        (sizes | {"model_type": "qwen2"}, False),
        (sizes | latent | {"model_type": "deepseek_v2"}, True),
        (sizes | latent | {"model_type": "deepseek_v3"}, True),
    ):
        assert family_of(data).read(data).rope.yarn_beyond_original_only is waits


@pytest.mark.parametrize("interleaved", [True, False])
def test_a_turn_is_a_rotation_by_position_times_frequency(interleaved: bool) -> None:
    frequencies = inverse_frequencies(RopeConfig(100.0), 4)
    cos, sin = rotary_tables(frequencies, torch.tensor([[3]]), torch.float32)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    turned = rotate(x, cos, sin, interleaved).flatten().tolist()
    pairs = [(0, 1), (2, 3)] if interleaved else [(0, 2), (1, 3)]
    for (a, b), frequency in zip(pairs, frequencies.tolist(), strict=True):
        z = complex(x[..., a].item(), x[..., b].item()) * complex(
            math.cos(3 * frequency), math.sin(3 * frequency)
        )
        assert (turned[a], turned[b]) == pytest.approx((z.real, z.imag), abs=1e-5)
