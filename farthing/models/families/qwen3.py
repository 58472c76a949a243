"""Qwen3, dense: queries and keys normalised per head, no biases, head_dim of its own (Qwen3 report, section 2)."""

from farthing.models.families.family import COMMON, Family, Gguf

FAMILY = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    fields=COMMON,
    constants={"qk_norm": True},
    defaults={
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    },
    fixed={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
    gguf=Gguf("qwen3", interleaved=False),
)
