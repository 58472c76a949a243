"""DeepSeek-V2 and V2-Lite: latent attention, experts chosen by softmax, two of them shared (arXiv 2405.04434)."""

from collections.abc import Mapping
from typing import Any

from farthing.models.config import ModelConfig
from farthing.models.families.family import COMMON, Family
from farthing.models.families.operators import EXPERTS

LATENT = {
    "mla.kv_lora_rank": "kv_lora_rank",
    "mla.q_lora_rank": "q_lora_rank",
    "mla.qk_nope_head_dim": "qk_nope_head_dim",
    "mla.qk_rope_head_dim": "qk_rope_head_dim",
    "mla.v_head_dim": "v_head_dim",
}
MIXTURE = {
    "moe.n_routed_experts": "n_routed_experts",
    "moe.num_experts_per_tok": "num_experts_per_tok",
    "moe.moe_intermediate_size": "moe_intermediate_size",
    "moe.n_shared_experts": "n_shared_experts",
    "moe.first_k_dense_replace": "first_k_dense_replace",
    "moe.moe_layer_freq": "moe_layer_freq",
    "moe.routed_scaling_factor": "routed_scaling_factor",
}
# With latent attention the size of a head is the sum of its parts.
FIELDS = {ours: theirs for ours, theirs in COMMON.items() if ours != "head_dim"} | LATENT | MIXTURE
LIMITED = "group_limited_greedy"


def read_groups(data: Mapping[str, Any]) -> dict[str, Any]:
    """Groups count only where the method of choosing says so."""
    values = {"head_dim": data["qk_nope_head_dim"] + data["qk_rope_head_dim"]}
    if data.get("topk_method", "greedy") == LIMITED:
        values |= {"moe.n_group": data["n_group"], "moe.topk_group": data["topk_group"]}
    return values


def write_groups(config: ModelConfig) -> dict[str, Any]:
    assert config.moe is not None
    method = LIMITED if config.moe.n_group > 1 else "greedy"
    return {"topk_method": method, "n_group": config.moe.n_group, "topk_group": config.moe.topk_group}


FAMILY = Family(
    model_type="deepseek_v2",
    architecture="DeepseekV2ForCausalLM",
    fields=FIELDS,
    constants={"rope.interleaved": True, "rope.yarn_beyond_original_only": True},
    defaults={
        "num_key_value_heads": lambda data: data.get("num_attention_heads"),
        "tie_word_embeddings": False,
        "n_shared_experts": 2,
    },
    fixed={"hidden_act": "silu", "attention_bias": False, "norm_topk_prob": False, "scoring_func": "softmax"},
    read_extra=read_groups,
    write_extra=write_groups,
    operators=lambda config: EXPERTS,
    own_code=frozenset(
        {
            "configuration_deepseek.DeepseekV2Config",
            "modeling_deepseek.DeepseekV2Model",
            "modeling_deepseek.DeepseekV2ForCausalLM",
        }
    ),
)
