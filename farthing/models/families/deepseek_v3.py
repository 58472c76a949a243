"""DeepSeek-V3 and R1: latent attention, sigmoid gate with groups and a correction bias, MTP, FP8 (arXiv 2412.19437)."""

from collections.abc import Mapping
from typing import Any

from farthing.models.config import ModelConfig
from farthing.models.families.deepseek_v2 import FIELDS
from farthing.models.families.family import Family
from farthing.models.families.operators import EXPERTS, Operator, copies, rename


def read_rest(data: Mapping[str, Any]) -> dict[str, Any]:
    interleaved = data.get("rope_interleave", True)
    return {
        "head_dim": data["qk_nope_head_dim"] + data["qk_rope_head_dim"],
        "rope.interleaved": True if interleaved is None else interleaved,
    }


def write_rest(config: ModelConfig) -> dict[str, Any]:
    return {"rope_interleave": config.rope.interleaved}


def operators(config: ModelConfig) -> tuple[Operator, ...]:
    """MTP modules stand behind the last layer, each with its own copy of the embedding and the head."""
    renames: list[Operator] = []
    embeddings, heads = [], []
    for depth in range(config.num_nextn_predict_layers):
        ours, theirs = rf"^model\.mtp\.{depth}\.", f"model.layers.{config.num_hidden_layers + depth}."
        renames += [
            rename(ours + r"block\.", theirs),
            rename(ours + r"norm\.", theirs + "shared_head.norm."),
            rename(ours, theirs),
        ]
        embeddings.append(f"{theirs}embed_tokens.weight")
        heads.append(f"{theirs}shared_head.head.weight")
    head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    return (*renames, *EXPERTS, copies("model.embed_tokens.weight", *embeddings), copies(head, *heads))


FAMILY = Family(
    model_type="deepseek_v3",
    architecture="DeepseekV3ForCausalLM",
    fields=FIELDS
    | {
        "moe.n_group": "n_group",
        "moe.topk_group": "topk_group",
        "moe.norm_topk_prob": "norm_topk_prob",
        "num_nextn_predict_layers": "num_nextn_predict_layers",
    },
    constants={
        "rope.yarn_beyond_original_only": True,
        "moe.scoring_func": "sigmoid",
        "moe.selection_bias": True,
        "moe.group_score": "top2",
        "moe.norm_eps": 1e-20,
    },
    defaults={
        "num_key_value_heads": lambda data: data.get("num_attention_heads"),
        "tie_word_embeddings": False,
        "n_group": 8,
        "topk_group": 4,
        "norm_topk_prob": True,
        "n_shared_experts": 1,
        "routed_scaling_factor": 2.5,
    },
    fixed={
        "hidden_act": "silu",
        "attention_bias": False,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
    },
    read_extra=read_rest,
    write_extra=write_rest,
    operators=operators,
    own_code=frozenset(
        {
            "configuration_deepseek.DeepseekV3Config",
            "modeling_deepseek.DeepseekV3Model",
            "modeling_deepseek.DeepseekV3ForCausalLM",
        }
    ),
)
