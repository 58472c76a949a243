"""Weights of 8 bits: close to the model, independent of the batch, and a small loss on held-out problems."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.engine.api import Request, SamplingParams
from farthing.engine.engine import Engine
from farthing.errors import CheckpointError
from farthing.models.config import MLAConfig, ModelConfig, MoEConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.int8 import quantise
from farthing.models.layers import Linear
from farthing.models.lora import LoraConfig, adapt
from farthing.models.whole import Int8Linear

SHAPE: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.2,
}


def model_of(**changes: Any) -> Decoder:
    return initialise(Decoder(ModelConfig(**{**SHAPE, **changes})), 1)


@given(st.integers(1, 40), st.integers(2, 70), st.integers(1, 50), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_product_is_as_close_as_eight_bits_can_be(rows: int, inputs: int, outputs: int, seed: int) -> None:
    """Each factor is off by at most half a step of its own scale."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, inputs, generator=generator)
    weight = torch.randn(outputs, inputs, generator=generator)
    found = Int8Linear(weight, None)(x)
    step_x, step_w = x.abs().amax(1, keepdim=True) / 127, weight.abs().amax(1) / 127
    bound = 0.5 * (
        step_x * weight.abs().sum(1) + x.abs().sum(1, keepdim=True) * step_w + 0.5 * inputs * step_x * step_w
    )
    assert ((found - x @ weight.T).abs() <= bound + 1e-4).all()


@pytest.mark.parametrize(
    "changes", [{"qk_norm": True}, {"attention_bias": True, "tie_word_embeddings": True}]
)
def test_logits_stay_close(changes: dict[str, Any]) -> None:
    """Off by less than a twentieth of the logits' spread (root mean square); every projection is replaced."""
    model = model_of(**changes)
    ids = torch.randint(0, 101, (3, 17), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(ids)
        found = quantise(model)(ids)
    assert (found - expected).square().mean().sqrt() < 0.05 * expected.std()
    assert not torch.equal(found, expected)
    linears = [module for module in model.modules() if isinstance(module, Linear)]
    assert linears and not any(module.weight.numel() for module in linears), "nothing is kept beside them"


@torch.no_grad()
def test_a_row_depends_on_nothing_else_in_the_batch() -> None:
    """Bit for bit, however many rows stand beside it: sums of whole numbers have no order."""
    bias = torch.randn(48)
    layer = Int8Linear(torch.randn(48, 64), bias)
    x = torch.randn(33, 64)
    whole = layer(x)
    for rows in (1, 2, 7, 16, 33):
        assert torch.equal(layer(x[:rows]), whole[:rows])
    assert torch.equal(layer(torch.cat([x[5:6], 1e4 * x])), torch.cat([whole[5:6], layer(1e4 * x)]))
    assert torch.equal(layer(torch.zeros(2, 64)), bias.expand(2, -1))


def test_sampling_is_the_same_alone_and_in_company() -> None:
    model = quantise(model_of(qk_norm=True))
    engine = Engine(model)
    requests = [
        Request(tuple(range(1, 4 + seed)), SamplingParams(max_new_tokens=12, seed=seed), str(seed))
        for seed in range(5)
    ]
    together = engine.generate(requests)
    assert [done.token_ids for done in together] == [engine.generate([one])[0].token_ids for one in requests]


def test_what_cannot_be_quantised_says_so() -> None:
    moe = MoEConfig(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    with pytest.raises(CheckpointError, match="has experts or latent attention"):
        quantise(model_of(moe=moe))
    mla = MLAConfig(kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8)
    with pytest.raises(CheckpointError, match="has experts or latent attention"):
        quantise(model_of(mla=mla, num_key_value_heads=4))
    with pytest.raises(CheckpointError, match="export a merged copy first"):
        quantise(adapt(model_of(), LoraConfig(r=2)))
