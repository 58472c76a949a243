"""What is in a model directory, without torch: from config.json alone, and from the weights' headers where they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farthing.errors import CheckpointError, FarthingError
from farthing.models.arithmetic import (
    decode_flops,
    kv_bytes_per_token,
    parameter_shapes,
    parameters,
    weight_bytes,
)
from farthing.models.config import ModelConfig
from farthing.models.families import find
from farthing.models.families.operators import Piece, absent, take_apart
from farthing.models.headers import Entry, read_headers
from farthing.models.sources import has_tokenizer, local_directory, read_config, read_config_json
from farthing.text.files import read_json

SIZED = ("float32", "bfloat16", "float8_e4m3fn")


def inspect(path: str | Path) -> dict[str, Any]:
    """A JSON object that describes the model at `path`: a directory, a config.json or a hub id.

    Keys: family, architecture, parameters (total, active, embedding, mtp), bytes by dtype, layers, hidden_size,
    vocab_size, context, attention (kind, heads, cache_bytes_per_token in bfloat16), rope, experts, decode_flops per
    token at an empty context, weights (files, bytes by stored dtype), tokenizer, missing (a list of what is not there).
    Raises CheckpointError for a configuration that farthing cannot compute.
    """
    directory, data = _configuration(path)
    config = read_config(data)
    count = parameters(config)
    weights, missing = _weights(directory, config)
    tokenizer, without = _tokenizer(directory)
    return {
        "path": str(path),
        "family": config.model_type,
        "architecture": find(config.model_type).architecture,
        "parameters": vars(count),
        "bytes": {dtype: weight_bytes(config, dtype) for dtype in SIZED},
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "tied": config.tie_word_embeddings,
        "context": config.max_position_embeddings,
        "attention": _attention(config),
        "rope": _rope(config),
        "experts": _experts(config),
        "decode_flops": decode_flops(config, 0),
        "weights": weights,
        "tokenizer": tokenizer,
        "missing": [*missing, *without],
    }


def _configuration(path: str | Path) -> tuple[Path | None, dict[str, Any]]:
    """(the directory, None where there is only a config file; the object in config.json)."""
    if Path(path).is_file():
        return None, read_json(Path(path))
    directory = local_directory(path, weights=False)
    return directory, read_config_json(directory)


def _attention(config: ModelConfig) -> dict[str, Any]:
    kind: dict[str, Any]
    if config.mla is not None:
        kind = {"kind": "latent", "channels": config.mla.latent_dim}
    else:
        kind = {"kind": "grouped", "key_heads": config.num_key_value_heads, "head_dim": config.head_dim}
    return kind | {"heads": config.num_attention_heads, "cache_bytes_per_token": kv_bytes_per_token(config)}


def _rope(config: ModelConfig) -> dict[str, Any]:
    rope = config.active_rope
    shown: dict[str, Any] = {
        "type": rope.rope_type,
        "theta": rope.rope_theta,
        "interleaved": rope.interleaved,
    }
    if rope.rope_type != "default":
        shown |= {"factor": rope.factor, "original": rope.original_max_position_embeddings}
    return shown


def _experts(config: ModelConfig) -> dict[str, Any] | None:
    if config.moe is None:
        return None
    moe = config.moe
    return {
        "routed": moe.n_routed_experts,
        "per_token": moe.num_experts_per_tok,
        "shared": moe.n_shared_experts,
        "layers": sum(config.is_moe_layer(layer) for layer in range(config.num_hidden_layers)),
        "scoring": moe.scoring_func,
    }


def _weights(directory: Path | None, config: ModelConfig) -> tuple[dict[str, Any] | None, list[str]]:
    """What the headers hold, and what of the model they lack; damage is reported, not raised."""
    if directory is None:
        return None, ["weights"]
    try:
        entries = read_headers(directory)
    except CheckpointError as problem:
        return None, [f"weights: {problem}"]
    sizes: dict[str, int] = {}
    for entry in entries.values():
        sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.end - entry.start
    found = {
        "files": len({entry.file for entry in entries.values()}),
        "tensors": len(entries),
        "bytes": sizes,
    }
    return found, lacking_tensors(config, entries)


def lacking_tensors(config: ModelConfig, entries: Mapping[str, Entry]) -> list[str]:
    """In words, the tensors that a checkpoint of this configuration should hold and does not."""
    operators = find(config.model_type).all_operators(config)
    main: list[Piece] = []
    further: list[Piece] = []
    for name, shape in parameter_shapes(config).items():
        pieces = further if name.startswith("model.mtp.") else main
        pieces += take_apart(name, shape, operators)
    if further and not any(piece.name in entries for piece in further):
        return [*_named(absent(main, entries)), "MTP modules (the model loads without them)"]
    return _named(absent(main + further, entries))


def _named(lacking: list[str]) -> list[str]:
    """One line, or none."""
    if not lacking:
        return []
    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return [f"tensors: {lacking[0]}{more}"]


def _tokenizer(directory: Path | None) -> tuple[dict[str, Any] | None, list[str]]:
    if directory is None or not has_tokenizer(directory):
        return None, ["tokenizer"]
    from farthing.text.tokenizer import Tokenizer

    try:
        tokenizer = Tokenizer.load(directory)
    except FarthingError as problem:
        return None, [f"tokenizer: {problem}"]
    template = tokenizer.chat_template
    found = {
        "tokens": tokenizer.vocab_size,
        "control_tokens": len(tokenizer.special_tokens),
        "template": bool(template),
        "thinking": "enable_thinking" in template or "<think>" in template,
    }
    return found, [] if template else ["chat template"]
