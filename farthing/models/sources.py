"""Where a model comes from, and what its config.json says; nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farthing.errors import CheckpointError
from farthing.models.config import ModelConfig
from farthing.models.families import family_of
from farthing.text.files import read_json

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What a model needs and nothing that could be run.
ADAPTER = "adapter_config.json"
VOCABULARIES = ("tokenizer.json", "*.model", "*.tiktoken")
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.tiktoken"]


def local_directory(path: str | Path, *, weights: bool = True) -> Path:
    """`path` if it is a directory; a hub id is fetched, without weights unless `weights`; raises CheckpointError."""
    directory = Path(path)
    if directory.is_dir():
        return directory
    if directory.exists():
        raise CheckpointError(f"{path}: a file; name the directory that holds config.json")
    if not isinstance(path, str) or not HUB_ID.fullmatch(path):
        raise CheckpointError(f"{path}: no such directory")
    return _from_hub(
        path, [*HUB_FILES] if weights else [name for name in HUB_FILES if name != "*.safetensors"]
    )


def _from_hub(name: str, files: list[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise CheckpointError(
            f"{name}: no such directory; to fetch it from the hub, type: pip install huggingface_hub"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as problem:
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise CheckpointError(
            f"{name}: no such directory, and not to be had from the hub: {reason}"
        ) from problem


def adapted_base(directory: Path) -> Path | None:
    """The directory of the model that the adapter in `directory` belongs to; None where there is no adapter or where
    whole weights stand beside it. Raises CheckpointError where that model is not on this machine."""
    path = directory / ADAPTER
    if not path.is_file() or next(directory.glob("model*.safetensors"), None) is not None:
        return None
    base = read_json(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not Path(base).is_dir():
        raise CheckpointError(
            f"{path}: the adapter's model, {base}, is not here; set base_model_name_or_path to its directory"
        )
    return Path(base)


def has_tokenizer(directory: Path) -> bool:
    """Whether there is a vocabulary in the directory."""
    return any(next(directory.glob(pattern), None) for pattern in VOCABULARIES)


def read_config_json(directory: Path) -> dict[str, Any]:
    """The object in config.json; raises CheckpointError."""
    return read_json(directory / "config.json")


def read_config(data: Mapping[str, Any]) -> ModelConfig:
    """The configuration in a config.json; raises CheckpointError for what farthing cannot compute."""
    return family_of(data).read(data)


def block_size(data: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of a block of 8-bit weights; raises CheckpointError for any other quantisation."""
    quantisation = data.get("quantization_config") or {}
    method = quantisation.get("quant_method", "fp8")
    if method != "fp8" or quantisation.get("fmt", "e4m3") != "e4m3":
        raise CheckpointError(
            f"config.json: weights quantised with {method!r} are not supported, only block-scaled fp8"
        )
    rows, columns = quantisation.get("weight_block_size") or (128, 128)
    return int(rows), int(columns)
