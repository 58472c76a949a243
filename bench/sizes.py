"""The models that are measured: Qwen3's shape in four sizes, random weights, and their twins in `transformers`."""

from __future__ import annotations

from typing import Any

import torch

from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise


def qwen3(hidden: int, layers: int, heads: int, key_heads: int, intermediate: int) -> ModelConfig:
    """Heads of 64 channels, a vocabulary of 1,024, tied embeddings."""
    return ModelConfig(
        vocab_size=1024,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=64,
        qk_norm=True,
        tie_word_embeddings=True,
        eos_token_id=0,
    )


SIZES = {
    "3M": qwen3(256, 4, 4, 2, 640),
    "12M": qwen3(384, 8, 6, 2, 960),
    "60M": qwen3(768, 9, 12, 4, 2048),
    "550M": qwen3(1280, 28, 20, 10, 3840),  # large enough for a server to read it in bfloat16
}


def random_model(size: str, seed: int = 0) -> Decoder:
    """float32 parameters, as a learner owns them."""
    return initialise(Decoder(SIZES[size]), seed)


def twin(model: Decoder, dtype: torch.dtype) -> Any:
    """The same weights as `transformers`' Qwen3ForCausalLM, in `dtype`."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = model.config
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    names += (
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "tie_word_embeddings",
    )
    settings = {name: getattr(config, name) for name in names}
    peer = Qwen3ForCausalLM(
        Qwen3Config(**settings, rope_theta=config.rope.rope_theta, eos_token_id=None, pad_token_id=0)
    )
    missing, unexpected = peer.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    peer.tie_weights()
    return peer.to(dtype).eval()
