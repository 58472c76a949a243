"""Qwen2, Qwen2.5 and the R1 distillations into them: biases on queries, keys and values (Qwen2 report, section 2.2)."""

from farthing.models.families.family import COMMON, Family, Gguf, heads_divide_hidden

FAMILY = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    fields=COMMON,
    constants={"attention_bias": True},
    defaults={
        "num_key_value_heads": 32,
        "head_dim": heads_divide_hidden,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    },
    fixed={"hidden_act": "silu", "use_sliding_window": False},
    gguf=Gguf("qwen2", interleaved=False),
)
