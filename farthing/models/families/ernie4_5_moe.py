"""ERNIE 4.5 mixtures (21B-A3B, 300B-A47B, the -PT layout): softmax gate with a correction bias that only chooses."""

from collections.abc import Mapping
from typing import Any

from farthing.models.config import ModelConfig
from farthing.models.families.ernie4_5 import DEFAULTS, FIXED
from farthing.models.families.family import COMMON, Family
from farthing.models.families.operators import EXPERTS, Operator, add_axis, rename

GATE_BIAS = r"\.mlp\.gate\.e_score_correction_bias$"


def read_layers(data: Mapping[str, Any]) -> dict[str, Any]:
    """Layer i is a mixture iff start <= i <= end and the interval divides i + 1; an end of -1 is the last layer."""
    interval, end = data.get("moe_layer_interval") or 1, data.get("moe_layer_end_index", -1)
    last = data["num_hidden_layers"] - 1
    return {
        "moe.moe_layer_freq": interval,
        "moe.moe_layer_offset": interval - 1,
        "moe.last_moe_layer": last if end is None or end == -1 else end,
    }


def write_layers(config: ModelConfig) -> dict[str, Any]:
    assert config.moe is not None
    return {"moe_layer_interval": config.moe.moe_layer_freq, "moe_layer_end_index": config.moe.last_moe_layer}


def operators(config: ModelConfig) -> tuple[Operator, ...]:
    """The multi-token module, a dense layer, has names of its own; so has the correction bias."""
    places = {
        "block": "mtp_block",
        "enorm": "mtp_emb_norm",
        "hnorm": "mtp_hidden_norm",
        "eh_proj": "mtp_linear_proj",
    }
    renames = tuple(
        rename(rf"^model\.mtp\.(\d+)\.{ours}\.", rf"model.{theirs}.\1.") for ours, theirs in places.items()
    )
    bias = (add_axis(GATE_BIAS), rename(GATE_BIAS, ".mlp.moe_statics.e_score_correction_bias"))
    return (*renames, *bias, *EXPERTS)


FAMILY = Family(
    model_type="ernie4_5_moe",
    architecture="Ernie4_5_MoeForCausalLM",
    fields=COMMON
    | {
        "moe.n_routed_experts": "moe_num_experts",
        "moe.num_experts_per_tok": "moe_k",
        "moe.moe_intermediate_size": "moe_intermediate_size",
        "moe.n_shared_experts": "moe_num_shared_experts",
        "moe.first_k_dense_replace": "moe_layer_start_index",
        "moe.norm_min": "moe_norm_min",
        "num_nextn_predict_layers": "num_nextn_predict_layers",
    },
    constants={
        "rope.interleaved": True,
        "moe.selection_bias": True,
        "moe.norm_topk_prob": True,
        "mtp_own_norm": False,
    },
    defaults=DEFAULTS
    | {
        "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1,
        "moe_norm_min": 1e-12,
        "moe_k": 6,
        "moe_num_experts": 64,
    },
    fixed=FIXED,
    read_extra=read_layers,
    write_extra=write_layers,
    operators=operators,
    own_code=frozenset(
        {
            "configuration_ernie4_5_moe.Ernie4_5_MoeConfig",
            "modeling_ernie4_5_moe.Ernie4_5_Model",
            "modeling_ernie4_5_moe.Ernie4_5_MoeModel",
            "modeling_ernie4_5_moe.Ernie4_5_MoeForCausalLM",
        }
    ),
)
