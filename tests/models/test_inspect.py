"""What `inspect` says of published models, from their config.json alone, and of directories with something missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from farthing.errors import CheckpointError
from farthing.models.arithmetic import parameter_shapes, parameters
from farthing.models.checkpoint import load_model, save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.inspect import inspect
from farthing.text.bpe import train

ROOT = Path(__file__).resolve().parents[2]
Theirs = Callable[[str], tuple[Any, Path]]


def config(model_type: str, sizes: str, **more: Any) -> dict[str, Any]:
    """`sizes`: vocabulary, hidden, layers, heads, key heads, feed-forward."""
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    values = dict(zip((*names, "intermediate_size"), map(int, sizes.split()), strict=True))
    return values | {"model_type": model_type} | more


LATENT = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
V3 = config(
    "deepseek_v3", "129280 7168 61 128 128 18432", **LATENT, q_lora_rank=1536, moe_intermediate_size=2048,
    n_routed_experts=256, num_experts_per_tok=8, n_shared_experts=1, first_k_dense_replace=3, n_group=8, topk_group=4,
    max_position_embeddings=163840, num_nextn_predict_layers=1, auto_map={
        "AutoConfig": "configuration_deepseek.DeepseekV3Config",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM",
    },
    rope_scaling={"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
                  "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
)  # fmt: skip
V2_LITE = config(
    "deepseek_v2", "102400 2048 27 16 16 10944", **LATENT, q_lora_rank=None, moe_intermediate_size=1408,
    n_routed_experts=64, num_experts_per_tok=6, n_shared_experts=2, first_k_dense_replace=1,
)  # fmt: skip
QWEN_MOE = {"head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8}
ERNIE_21B = config(
    "ernie4_5_moe", "103424 2560 28 20 4 12288", moe_intermediate_size=1536, moe_num_experts=64, moe_k=6,
    moe_num_shared_experts=2, moe_layer_start_index=1, moe_layer_end_index=-1, tie_word_embeddings=True,
)  # fmt: skip
ERNIE_300B = config(
    "ernie4_5_moe", "103424 8192 54 64 8 28672", moe_intermediate_size=3584, moe_num_experts=64, moe_k=8,
    moe_num_shared_experts=0, moe_layer_start_index=3, moe_layer_end_index=53, tie_word_embeddings=True,
)  # fmt: skip

# name -> (config.json, billions of parameters, billions active or None, KiB of cache per token in bfloat16 or None)
PUBLISHED: dict[str, tuple[dict[str, Any], float, float | None, float | None]] = {
    "DeepSeek-V3": (V3, 671.026, 37.55, 68.625),
    "DeepSeek-V2-Lite": (V2_LITE, 15.706, None, 30.375),
    "Qwen3-235B-A22B": (
        config("qwen3_moe", "151936 4096 94 64 4 12288", **QWEN_MOE, moe_intermediate_size=1536), 235.094, 22.19, None,
    ),
    "Qwen3-30B-A3B": (
        config("qwen3_moe", "151936 2048 48 32 4 6144", **QWEN_MOE, moe_intermediate_size=768), 30.532, 3.35, 96,
    ),
    "Qwen3-8B": (config("qwen3", "151936 4096 36 32 8 12288", head_dim=128), 8.191, None, 144),
    "Qwen3-0.6B": (config("qwen3", "151936 1024 28 16 8 3072", tie_word_embeddings=True), 0.596, None, None),
    "Qwen2.5-0.5B": (config("qwen2", "151936 896 24 14 2 4864", tie_word_embeddings=True), 0.494, None, 12),
    "Qwen2.5-7B": (config("qwen2", "152064 3584 28 28 4 18944"), 7.616, None, None),
    "ERNIE-4.5-21B-A3B": (ERNIE_21B, 21.825, 3.35, 56),
    "ERNIE-4.5-300B-A47B": (ERNIE_300B, 298.6, 47.1, 216),
    "ERNIE-4.5-0.3B": (config("ernie4_5", "103424 1024 18 16 2 3072"), 0.361, None, None),
    "Llama-3.1-8B": (config("llama", "128256 4096 32 32 8 14336"), 8.030, None, 128),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name: str, tmp_path: Path) -> None:
    data, total, active, cache = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(data))
    found = inspect(tmp_path / "config.json")
    decimals = len(str(total).split(".")[1])
    assert round(found["parameters"]["total"] / 1e9, decimals) == total
    if active is not None:
        assert found["parameters"]["active"] / 1e9 == pytest.approx(active, abs=0.05)
    if cache is not None:
        assert found["attention"]["cache_bytes_per_token"] == cache * 1024
    assert found["bytes"]["bfloat16"] == 2 * found["parameters"]["total"]
    assert found["missing"] == ["weights", "tokenizer"]


def test_the_modules_that_predict_further_are_counted_apart(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(V3))
    found = inspect(tmp_path / "config.json")["parameters"]
    # DeepSeek-V3, README_WEIGHTS.md: 11.5 billion of its own, the embedding and head it shares not among them.
    assert found["mtp"] / 1e9 == pytest.approx(11.6, abs=0.1)


def test_it_is_the_decoder_that_is_counted(case: str, theirs: Theirs) -> None:
    model, _ = load_model(theirs(case)[1])
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert parameter_shapes(model.config) == shapes
    total = sum(tensor.numel() for tensor in model.state_dict().values())
    assert parameters(model.config).total == inspect(theirs(case)[1])["parameters"]["total"] == total
    without = ["MTP modules (the model loads without them)"] if case.startswith("deepseek_v3") else []
    assert inspect(theirs(case)[1])["missing"] == [*without, "tokenizer"]


def test_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    tokenizer = train(["one and one is two"], 300)
    sizes = ModelConfig(300, 16, 20, 2, 2, 1, 8, qk_norm=True)
    save_model(initialise(Decoder(sizes), 0), tokenizer, tmp_path / "model", dtype="bfloat16")
    found = inspect(tmp_path / "model")
    assert found["missing"] == []
    assert found["weights"]["bytes"] == {"BF16": found["bytes"]["bfloat16"]}
    assert found["tokenizer"] == {
        "tokens": tokenizer.vocab_size,
        "control_tokens": len(tokenizer.special_tokens),
        "template": True,
        "thinking": True,
    }
    json.dumps(found)
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    del tensors["lm_head.weight"], tensors["model.norm.weight"]
    save_file(tensors, path)
    assert inspect(tmp_path / "model")["missing"] == ["tensors: model.norm.weight and 1 more"]
    path.write_bytes(path.read_bytes()[:-7])
    (missing,) = inspect(tmp_path / "model")["missing"]
    assert missing.startswith("weights: ") and "truncated" in missing


def test_a_configuration_that_is_not_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(CheckpointError, match="'gpt2' is not supported"):
        inspect(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="JSON object"):
        inspect(tmp_path / "config.json")


def test_torch_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(ERNIE_21B))
    program = (
        "import sys; from farthing.models.inspect import inspect; inspect(sys.argv[1]); print([*sys.modules])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "'farthing.models.inspect'" in done.stdout and "'torch'" not in done.stdout
