"""Models on disk, in Hugging Face's layout: config.json, safetensors, tokenizer, generation_config.json.

Reading: every header is checked against the model before the first weight is read, then one tensor at a time is copied
from the mapped file into a model built without memory. Writing: into a directory beside the target, made durable, then
renamed. No pickle and no remote code, ever.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from farthing.errors import CheckpointError
from farthing.models.config import ModelConfig
from farthing.models.convert import pieces_of
from farthing.models.decoder import Decoder
from farthing.models.families import family_of, find
from farthing.models.headers import read_headers
from farthing.models.weights import read_into, write_safetensors
from farthing.text.tokenizer import Tokenizer

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
CARD = "farthing.json"


def dtype_named(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise CheckpointError(f"dtype {name!r} is not known; choose one of {', '.join(DTYPES)}")
    return DTYPES[name]


def read_config(directory: str | Path) -> ModelConfig:
    """The configuration of a model directory; raises CheckpointError."""
    data = read_json(Path(directory) / "config.json")
    return family_of(data).read(data)


def read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; a model directory holds config.json") from None
    except ValueError as problem:
        raise CheckpointError(f"{path}: not JSON: {problem}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return data


def load_model(path: str | Path, dtype: str = "float32") -> tuple[Decoder, Tokenizer | None]:
    """The model at `path` with parameters in `dtype`, and its tokenizer (None where the directory has none).

    Raises CheckpointError naming the file and the tensor that is truncated, missing, too many, of the wrong shape or
    dtype, or not finite; then nothing is returned.
    """
    directory = Path(path)
    config = read_config(directory)
    target = dtype_named(dtype)
    tokenizer = Tokenizer.load(directory) if (directory / "tokenizer.json").is_file() else None
    model = build_empty(config, target)
    read_into(pieces_of(model), read_headers(directory), find(config.model_type).ignored)
    return model, tokenizer


def build_empty(config: ModelConfig, dtype: torch.dtype) -> Decoder:
    """A decoder whose parameters have memory but no values yet; its tables are ready."""
    with torch.device("meta"):
        model = Decoder(config)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=dtype)
                module._parameters[name] = torch.nn.Parameter(empty, parameter.requires_grad)
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
    target = Path(directory)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write_json(temporary / "config.json", config_json(model.config, dtype))
        _write_json(temporary / "generation_config.json", generation_json(model.config, tokenizer))
        if extra is not None:
            _write_json(temporary / CARD, extra)
        if tokenizer is not None:
            tokenizer.save(temporary)
        tensors = {piece.name: piece.tensor for piece in pieces_of(model) if not piece.optional}
        write_safetensors(temporary / "model.safetensors", tensors, dtype_named(dtype))
        make_durable(temporary)
        replace_directory(temporary, target)
    except OSError as problem:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{target}: cannot be written: {problem.strerror}") from problem


def config_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    return find(config.model_type).write(config) | {"torch_dtype": dtype}


def generation_json(config: ModelConfig, tokenizer: Tokenizer | None) -> dict[str, Any]:
    ids: Mapping[str, Any] = {
        "bos_token_id": config.bos_token_id if tokenizer is None else tokenizer.bos_id,
        "eos_token_id": config.eos_token_id if tokenizer is None else tokenizer.eos_id,
        "pad_token_id": config.pad_token_id if tokenizer is None else tokenizer.pad_id,
    }
    return {key: value for key, value in ids.items() if value is not None}


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def make_durable(directory: Path) -> None:
    """Wait until every file of a directory, and the directory itself, is on the disk."""
    for path in [*directory.iterdir(), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_directory(temporary: Path, target: Path) -> None:
    """Put a finished directory in the place of another."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        os.replace(target, old)
    os.replace(temporary, target)
    shutil.rmtree(old, ignore_errors=True)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
