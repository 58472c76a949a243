"""Small random checkpoints of every family, written by transformers: the other side of every comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Case = tuple[str, dict[str, Any]]

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 512,
}
ODD = {
    "vocab_size": 61,
    "hidden_size": 36,
    "intermediate_size": 27,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 4.0,
    "beta_slow": 0.5,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 8,
    "v_head_dim": 14,
    "moe_intermediate_size": 20,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "q_lora_rank": None,
}
QWEN_MOE = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 20, "head_dim": 12}
ERNIE_MOE = {"moe_num_experts": 8, "moe_k": 3, "moe_intermediate_size": 20, "moe_num_shared_experts": 2}

# name -> (configuration class of transformers, its arguments)
CASES: dict[str, Case] = {
    "llama-untied": ("LlamaConfig", SIZES),
    "llama-tied-llama3": ("LlamaConfig", SIZES | {"tie_word_embeddings": True, "rope_scaling": LLAMA3}),
    "llama-odd": ("LlamaConfig", SIZES | ODD | {"head_dim": 10, "num_key_value_heads": 6, "rope_theta": 5e5}),
    "qwen2-tied": ("Qwen2Config", SIZES | {"tie_word_embeddings": True, "rope_theta": 1e6}),
    "qwen2-odd": ("Qwen2Config", SIZES | ODD | {"rope_theta": 1e4}),
    "qwen2-yarn": ("Qwen2Config", SIZES | {"rope_scaling": YARN}),
    "qwen3-tied": ("Qwen3Config", SIZES | {"tie_word_embeddings": True, "head_dim": 12}),
    "qwen3-odd": ("Qwen3Config", SIZES | ODD | {"head_dim": 14, "rms_norm_eps": 1e-3}),
    "qwen3_moe": ("Qwen3MoeConfig", SIZES | QWEN_MOE | {"norm_topk_prob": True}),
    "qwen3_moe-mixed": (
        "Qwen3MoeConfig",
        SIZES | QWEN_MOE | {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    ),
    "deepseek_v2-lite": (
        "DeepseekV2Config",
        SIZES | LATENT | {"rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}},
    ),
    "deepseek_v2-groups": (
        "DeepseekV2Config",
        SIZES
        | LATENT
        | {
            "q_lora_rank": 16,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 16.0,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        SIZES
        | LATENT
        | {
            "q_lora_rank": 16,
            "n_group": 4,
            "topk_group": 2,
            "rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "deepseek_v3-plain": (
        "DeepseekV3Config",
        SIZES
        | LATENT
        | ODD
        | {
            "num_key_value_heads": 6,
            "n_group": 1,
            "topk_group": 1,
            "n_shared_experts": 2,
            "norm_topk_prob": False,
            "tie_word_embeddings": True,
            "rope_interleave": False,
        },
    ),
    "deepseek_v3-yarn": (
        "DeepseekV3Config",
        SIZES
        | LATENT
        | {"n_group": 2, "topk_group": 1, "rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}},
    ),
    "ernie4_5": ("Ernie4_5Config", SIZES | {"head_dim": 12}),
    "ernie4_5-untied": ("Ernie4_5Config", SIZES | ODD | {"head_dim": 10, "tie_word_embeddings": False}),
    "ernie4_5_moe": ("Ernie4_5_MoeConfig", SIZES | ERNIE_MOE),
    "ernie4_5_moe-sparse": (
        "Ernie4_5_MoeConfig",
        SIZES
        | ERNIE_MOE
        | {
            "num_hidden_layers": 6,
            "moe_num_shared_experts": 0,
            "moe_layer_interval": 2,
            "moe_layer_start_index": 2,
            "moe_layer_end_index": 4,
        },
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES)


def build(case: str) -> Any:
    """A random model of transformers; no parameter has a value that hides a mistake (norms of 1, biases of 0)."""
    import transformers

    name, arguments = CASES[case]
    torch.manual_seed(sum(case.encode()))
    config = getattr(transformers, name)(**arguments)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.ndim == 1 or "correction_bias" in key:
                tensor.add_(0.1 * torch.randn_like(tensor))
    return model


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """case -> (their model, the directory it was saved in); made once."""
    made: dict[str, tuple[Any, Path]] = {}

    def make(case: str) -> tuple[Any, Path]:
        if case not in made:
            model, directory = build(case), tmp_path_factory.mktemp(case)
            model.save_pretrained(directory)
            made[case] = model, directory
        return made[case]

    return make
