"""Llama 3.x, and the R1 distillations into it: grouped queries, no biases, llama3 position scaling."""

from farthing.models.families.family import COMMON, Family, Gguf, heads_divide_hidden

FAMILY = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    fields=COMMON,
    defaults={
        "num_key_value_heads": lambda data: data.get("num_attention_heads"),
        "head_dim": heads_divide_hidden,
        "tie_word_embeddings": False,
    },
    fixed={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    gguf=Gguf("llama", interleaved=True),
)
