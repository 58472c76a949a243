"""Models on disk, in Hugging Face's layout: config.json, safetensors, tokenizer, generation_config.json.

Reading: every header is checked against the model before the first weight is read, then one tensor at a time is copied
from the mapped file into a model built without memory. Writing: into a directory beside the target, made durable, then
renamed. No pickle and no remote code, ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from farthing.errors import CheckpointError
from farthing.models.adapters import load_adapter
from farthing.models.config import ModelConfig
from farthing.models.convert import DiskTensor, pieces_of
from farthing.models.decoder import Decoder
from farthing.models.families import find
from farthing.models.headers import Entry, read_headers
from farthing.models.layout import describe, replace_directory
from farthing.models.moe import Router
from farthing.models.sources import (
    adapted_base,
    block_size,
    has_tokenizer,
    local_directory,
    read_config,
    read_config_json,
)
from farthing.models.weights import NAMES, Item, check, read_into, write_weights
from farthing.text.tokenizer import Tokenizer

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def dtype_named(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise CheckpointError(f"dtype {name!r} is not known; choose one of {', '.join(DTYPES)}")
    return DTYPES[name]


def load_model(path: str | Path, dtype: str = "float32") -> tuple[Decoder, Tokenizer | None]:
    """The model at `path` (a directory or a hub id) with parameters in `dtype`, and its tokenizer (None where there is
    none). Weights of 8 bits are expanded. Of an adapter's directory, the model it belongs to with the adapter beside
    its frozen weights.

    Raises CheckpointError naming the file and the tensor that is truncated, missing, too many, of the wrong shape or
    dtype, or not finite; then nothing is returned.
    """
    target = dtype_named(dtype)
    directory = local_directory(path)
    base = adapted_base(directory)
    if base is not None:
        model, tokenizer = load_model(base, dtype)
        load_adapter(model, directory)
        return model, load_tokenizer(directory, model.config) or tokenizer
    data = read_config_json(directory)
    config, block = read_config(data), block_size(data)
    entries = read_headers(directory)
    tokenizer = load_tokenizer(directory, config)
    model, wanted = fitting(config, entries, target)
    check(wanted, entries, find(config.model_type).ignored, block)
    read_into(wanted, entries, block)
    return model, tokenizer


def load_tokenizer(directory: Path, config: ModelConfig) -> Tokenizer | None:
    """The tokenizer of a model directory; raises CheckpointError for one with more tokens than the model has rows."""
    if not has_tokenizer(directory):
        return None
    tokenizer = Tokenizer.load(directory)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {config.vocab_size} rows"
        )
    return tokenizer


def fitting(
    config: ModelConfig, entries: Mapping[str, Entry], dtype: torch.dtype
) -> tuple[Decoder, list[DiskTensor]]:
    """An empty model and what fills it. Modules that predict further tokens are left out where a checkpoint announces
    them and has none of their weights, as those written by `transformers` do."""
    model = build_empty(config, dtype)
    wanted = pieces_of(model)
    further = {piece.name for piece in wanted if piece.parameter.startswith("model.mtp.")}
    if further and not further & entries.keys():
        return fitting(replace(config, num_nextn_predict_layers=0), entries, dtype)
    return model, wanted


def build_empty(config: ModelConfig, dtype: torch.dtype) -> Decoder:
    """A decoder whose parameters have memory but no values yet; its tables are ready. Routers stay float32."""
    with torch.device("meta"):
        model = Decoder(config)
    for module in model.modules():
        own = torch.promote_types(dtype, torch.float32) if isinstance(module, Router) else dtype
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=own)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.zeros(buffer.shape, dtype=buffer.dtype))
    model.reset_tables()
    return model


def save_model(
    model: Decoder,
    tokenizer: Tokenizer | None,
    directory: str | Path,
    extra: dict[str, Any] | None = None,
    dtype: str = "float32",
) -> None:
    """Write a model that `transformers` and vLLM load, atomically: the directory is the old one or the new one.

    `extra` becomes farthing.json beside the weights. Raises CheckpointError where the directory cannot be written.
    """
    if any(".adapter." in key for key, _ in model.named_parameters()):
        raise CheckpointError(f"{directory}: the model has adapters; save them apart, or save a merged copy")
    name = NAMES[dtype_named(dtype)]
    items = [Item(piece.name, piece.tensor, name) for piece in pieces_of(model) if piece.written]

    def fill(temporary: Path) -> None:
        describe(temporary, model.config, tokenizer, extra, dtype)
        write_weights(temporary, items)

    replace_directory(Path(directory), fill)
