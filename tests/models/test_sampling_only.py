"""Models whose projections are packed for good: the same numbers, and nothing kept beside them."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from farthing.models.config import MLAConfig, ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.layers import Linear
from farthing.models.lora import LoraConfig, adapt
from farthing.models.packed import StripsLinear, suits_strips
from farthing.models.sampling_only import pack
from tests.models.shapes import DENSE

CONFIG = replace(DENSE, qk_norm=False, attention_bias=True, initializer_range=0.2)
needs_strips = pytest.mark.skipif(
    not suits_strips(16, 2),
    reason="no C++ compiler, FARTHING_FUSED=0, or a processor without dot products of bfloat16 pairs",
)


def narrow(config: ModelConfig = CONFIG) -> Decoder:
    model = initialise(Decoder(config), 5).bfloat16()
    model.publish(torch.bfloat16)
    return model


def projections(model: Decoder) -> list[torch.nn.Module]:
    return [m for m in model.model.layers.modules() if isinstance(m, Linear | StripsLinear)]


@needs_strips
@torch.no_grad()
def test_a_packed_model_computes_what_it_did() -> None:
    """Off by roundings of bfloat16: sums are taken in another order. What is not a projection stays."""
    model = narrow()
    for block in model.model.layers:
        for part in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj):
            part.bias.normal_(generator=torch.Generator().manual_seed(4))
    model.publish(torch.bfloat16)
    ids = torch.randint(0, 61, (3, 17), generator=torch.Generator().manual_seed(2))
    before = model(ids).float()
    packed = pack(copy.deepcopy(model))
    packed.publish(torch.bfloat16)
    after = packed(ids).float()
    assert (after - before).square().mean().sqrt() < 0.02 * before.std()
    linears = [m for m in projections(packed) if isinstance(m, Linear)]
    assert linears and not any(linear.weight.numel() for linear in linears), (
        "nothing is kept beside the strips"
    )
    assert len(projections(packed)) - len(linears) == 4 * CONFIG.num_hidden_layers
    assert torch.equal(packed.head_weight, model.head_weight)
    packed.publish(torch.bfloat16)
    assert torch.equal(packed(ids).float(), after), "publishing it again changes nothing"


def test_what_strips_do_not_suit_stays_as_it_is() -> None:
    mla = MLAConfig(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)
    kept = {
        "float32": initialise(Decoder(CONFIG), 5),
        "half a strip": narrow(replace(CONFIG, intermediate_size=100)),
        "latents": narrow(replace(CONFIG, attention_bias=False, mla=mla)),
        "adapters": adapt(narrow(), LoraConfig(r=2), 0),
    }
    for reason, model in kept.items():
        before = {name: tensor.data_ptr() for name, tensor in model.named_parameters()}
        after = {name: tensor.data_ptr() for name, tensor in pack(model).named_parameters()}
        assert before == after, reason
