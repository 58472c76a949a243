"""Model directories: what is described beside the weights, and how a directory takes another's place in one step."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from farthing.errors import CheckpointError
from farthing.models.config import ModelConfig
from farthing.models.families import find
from farthing.runs.files import wait_for_disk
from farthing.text.tokenizer import Tokenizer

CARD = "farthing.json"


def describe(
    directory: Path,
    config: ModelConfig,
    tokenizer: Tokenizer | None,
    card: Mapping[str, Any] | None,
    dtype: str,
) -> None:
    """Write everything but weights: config.json, generation settings, tokenizer, and `card` as farthing.json."""
    write_json(directory / "config.json", find(config.model_type).write(config) | {"torch_dtype": dtype})
    write_json(directory / "generation_config.json", generation_json(config, tokenizer))
    if card is not None:
        write_json(directory / CARD, card)
    if tokenizer is not None:
        tokenizer.save(directory)


def generation_json(config: ModelConfig, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """generation_config.json: the tokenizer knows its own tokens, but only the configuration knows of several ends."""
    ids: dict[str, Any] = {}
    for name in ("bos", "eos", "pad"):
        known, configured = getattr(tokenizer, f"{name}_id", None), getattr(config, f"{name}_token_id")
        value = list(configured) if isinstance(configured, tuple) else configured if known is None else known
        if value is not None:
            ids[f"{name}_token_id"] = value
    return ids


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def replace_directory(target: Path, fill: Callable[[Path], None], marker: str = "config.json") -> None:
    """Put what `fill` writes in the place of `target`: nothing yet, or a directory of its kind, with a file `marker`.

    What is found under that name is never half a model: the new directory is whole and on the disk before it takes the
    name. Raises CheckpointError, leaving the old directory, where that cannot be done.
    """
    temporary, old = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    if target.is_dir() and any(target.iterdir()) and not (target / marker).exists():
        raise CheckpointError(f"{target}: holds files of another kind (no {marker}); name another directory")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        fill(temporary)
        for path in [*temporary.iterdir(), temporary]:
            wait_for_disk(path)
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
        wait_for_disk(target.parent)
    except OSError as problem:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise CheckpointError(f"{target}: cannot be written: {problem.strerror}") from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def link_directory(source: Path, target: Path) -> None:
    """Give a finished model a second place, `target`, in one step. Its files are written once and never changed, so
    both places share them; they are copied where the file system has no hard links."""

    def fill(temporary: Path) -> None:
        for path in source.iterdir():
            try:
                os.link(path, temporary / path.name)
            except OSError:
                shutil.copyfile(path, temporary / path.name)

    replace_directory(target, fill)
