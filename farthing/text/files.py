"""The files of a tokenizer directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farthing.errors import CheckpointError
from farthing.text import ranks, sentencepiece
from farthing.text.definition import with_fixed_ids


def read(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`tokenizer.json`, `tokenizer_config.json`) of a directory, the former converted where it is missing.

    `chat_template.jinja` wins over a template in the config, as in `transformers`. Added tokens that only the config
    knows are added. Code named in `auto_map` is never run and not kept.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory; name one that holds tokenizer.json")
    config = read_json(directory / "tokenizer_config.json", missing={})
    config.pop("auto_map", None)
    template = directory / "chat_template.jinja"
    if template.exists():
        config["chat_template"] = template.read_text(encoding="utf-8")
    vocabulary = directory / "tokenizer.json"
    if vocabulary.exists():
        definition = checked(read_json(vocabulary), vocabulary)
    else:
        definition, defaults = _converted(directory, config)
        config = {**defaults, **config}
    return with_fixed_ids(with_config_tokens(definition, config)), config


def write(directory: Path, definition: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Write both files; a template is kept in the config, where older readers look for it too."""
    directory.mkdir(parents=True, exist_ok=True)
    # The generic class reads tokenizer.json as it is; family classes rebuild parts of it from memory.
    _write_json(directory / "tokenizer.json", definition)
    _write_json(directory / "tokenizer_config.json", {**config, "tokenizer_class": "PreTrainedTokenizerFast"})
    (directory / "chat_template.jinja").unlink(missing_ok=True)


def _converted(directory: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    for path in sorted([*directory.glob("*.tiktoken"), *directory.glob("*.model")]):
        data = path.read_bytes()
        if ranks.looks_like(data):
            found = ranks.parse(data, path.name)
            style = ranks.detect(found, path.name)
            return ranks.convert(found, style), style.named
        return sentencepiece.convert(data, config, path.name), {}
    raise CheckpointError(
        f"{directory}: no vocabulary found; expected tokenizer.json, *.tiktoken or a SentencePiece tokenizer.model"
    )


def checked(definition: dict[str, Any], path: Path) -> dict[str, Any]:
    """The definition, if the parts that farthing itself reads have their shape; the library checks the rest."""
    if not isinstance(definition.get("model"), dict):
        raise CheckpointError(f"{path}: cannot be used: it has no model")
    added = definition.get("added_tokens") or []
    if not isinstance(added, list):
        raise CheckpointError(f"{path}: cannot be used: added_tokens is not a list")
    for index, entry in enumerate(added):
        shaped = isinstance(entry, dict) and isinstance(entry.get("content"), str)
        if not shaped or not isinstance(entry.get("id"), int):
            raise CheckpointError(f"{path}: cannot be used: added token {index} has no content or no id")
    return definition


def with_config_tokens(definition: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The definition with those tokens of the config's `added_tokens_decoder` that it lacks."""
    known = {entry["id"] for entry in definition.get("added_tokens") or []}
    listed = config.get("added_tokens_decoder") or {}
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    missing = [
        {"id": int(key), "content": entry["content"], **{flag: bool(entry.get(flag)) for flag in flags}}
        for key, entry in listed.items()
        if int(key) not in known
    ]
    added = sorted([*(definition.get("added_tokens") or []), *missing], key=lambda entry: entry["id"])
    return {**definition, "added_tokens": added}


def read_json(path: Path, missing: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object in a file of a model directory; `missing` is what an absent file means, None makes it an error.

    Raises CheckpointError.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if missing is not None:
            return dict(missing)
        raise CheckpointError(f"{path}: no such file; a model directory holds {path.name}") from error
    except (OSError, ValueError) as error:
        problem = f"cannot be read as JSON: {error}"
    else:
        if isinstance(data, dict):
            return data
        problem = f"expected a JSON object, found {type(data).__name__}"
    advice = "" if missing is None else "; without the file the model can be used"
    raise CheckpointError(f"{path}: {problem}{advice}")


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
