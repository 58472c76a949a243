"""ERNIE 4.5, dense (0.3B): head_dim of its own, neighbouring channels paired in rotary embedding."""

from farthing.models.families.family import COMMON, Family, Gguf, heads_divide_hidden

# What dense and mixture share.
DEFAULTS = {
    "num_key_value_heads": lambda data: data.get("num_attention_heads"),
    "head_dim": heads_divide_hidden,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "rope_theta": 500000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FIXED = {"hidden_act": "silu", "use_bias": False}

FAMILY = Family(
    model_type="ernie4_5",
    architecture="Ernie4_5ForCausalLM",
    fields=COMMON,
    constants={"rope.interleaved": True},
    defaults=DEFAULTS | {"head_dim": 128},
    fixed=FIXED,
    own_code=frozenset(
        {
            "configuration_ernie4_5.Ernie4_5_Config",
            "modeling_ernie4_5.Ernie4_5_Model",
            "modeling_ernie4_5.Ernie4_5_ForCausalLM",
        }
    ),
    gguf=Gguf("ernie4_5", interleaved=True),
)
