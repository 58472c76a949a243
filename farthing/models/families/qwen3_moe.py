"""Qwen3 mixtures: 128 experts chosen by softmax, eight per token, none shared (Qwen3 report, section 2)."""

from collections.abc import Mapping
from typing import Any

from farthing.models.config import ModelConfig
from farthing.models.families.family import COMMON, Family, heads_divide_hidden
from farthing.models.families.operators import EXPERTS


def read_layers(data: Mapping[str, Any]) -> dict[str, Any]:
    """Every `decoder_sparse_step`-th layer, counted from 1, is a mixture."""
    step = data.get("decoder_sparse_step") or 1
    return {"moe.moe_layer_freq": step, "moe.moe_layer_offset": step - 1}


def write_layers(config: ModelConfig) -> dict[str, Any]:
    assert config.moe is not None
    return {"decoder_sparse_step": config.moe.moe_layer_freq}


FAMILY = Family(
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    fields=COMMON
    | {
        "moe.n_routed_experts": "num_experts",
        "moe.num_experts_per_tok": "num_experts_per_tok",
        "moe.moe_intermediate_size": "moe_intermediate_size",
        "moe.norm_topk_prob": "norm_topk_prob",
        "moe.dense_layers": "mlp_only_layers",
    },
    constants={"qk_norm": True},
    defaults={
        "num_key_value_heads": 4,
        "head_dim": heads_divide_hidden,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    },
    fixed={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
    aliases={"num_experts": "num_local_experts"},
    read_extra=read_layers,
    write_extra=write_layers,
    operators=lambda config: EXPERTS,
)
