"""Text to token ids and back: one class for every vocabulary.

The vocabulary is always a Hugging Face `tokenizer.json`, carried out by the `tokenizers` library, so that
`transformers` and vLLM read the same directory and see the same ids. On top of it stands one rule of our own:
plain text never becomes a control token. `encode` keeps control tokens out unless asked for them by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from farthing.errors import CheckpointError
from farthing.text.added import AddedToken, control_pattern, read_added
from farthing.text.stream import StreamDecoder, stream_decoder


class Tokenizer:
    """A vocabulary with its control tokens and its chat template.

    `definition` is the parsed `tokenizer.json`, `config` the parsed `tokenizer_config.json`; both are kept whole,
    so that saving a tokenizer that was loaded writes back everything it was loaded with.
    """

    def __init__(self, definition: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
        self.definition: dict[str, Any] = dict(definition)
        self.config: dict[str, Any] = dict(config or {})
        self.added: tuple[AddedToken, ...] = read_added(self.definition)
        self._full = _backend(self.definition)
        self._plain = _backend(without_control(self.definition, self.added))

    # ---- text and ids

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`; nothing is put in front or behind.

        With `special=False` a control token spelled out in `text` is encoded as the ordinary characters it consists
        of; with `special=True` it becomes its single id. Only text that the program itself wrote deserves the latter.
        """
        backend = self._full if special else self._plain
        return list(backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. `skip_special` leaves role and end tokens out."""
        return str(self._full.decode(list(ids), skip_special_tokens=skip_special))

    def stream(self, *, skip_special: bool = False) -> StreamDecoder:
        """A decoder to be fed id by id; it never gives out half a character."""
        return stream_decoder(self._full, self.definition, skip_special=skip_special)

    # ---- the vocabulary

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id, control tokens included: the least number of embedding rows."""
        vocab = self._full.get_vocab(with_added_tokens=True)
        return max(vocab.values()) + 1

    def token_id(self, token: str) -> int | None:
        """The id of a token spelled exactly as in the vocabulary, or None."""
        found: int | None = self._full.token_to_id(token)
        return found

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Control tokens, name to id: what text from outside must never turn into."""
        return {token.content: token.id for token in self.added if token.control}

    @cached_property
    def control_pattern(self) -> Any:
        """Regular expression that finds control tokens in a text, the longest first."""
        return control_pattern(self.special_tokens)

    @property
    def eos_id(self) -> int | None:
        return self._named("eos_token")

    @property
    def bos_id(self) -> int | None:
        return self._named("bos_token")

    @property
    def pad_id(self) -> int | None:
        return self._named("pad_token")

    def _named(self, key: str) -> int | None:
        name = self.named_token(key)
        return None if name is None else self.token_id(name)

    def named_token(self, key: str) -> str | None:
        """The spelling of `eos_token`, `bos_token`, ... ; the config holds a string or a description of a token."""
        value = self.config.get(key)
        if isinstance(value, Mapping):
            value = value.get("content")
        return value if isinstance(value, str) else None

    # ---- the chat template

    @property
    def chat_template(self) -> str:
        """The jinja source, or the empty string for a vocabulary without one."""
        template = self.config.get("chat_template", "")
        if isinstance(template, list):
            named = {entry["name"]: entry["template"] for entry in template}
            template = named.get("default", "")
        return str(template or "")

    @chat_template.setter
    def chat_template(self, source: str) -> None:
        self.config["chat_template"] = source

    # ---- disk

    @classmethod
    def load(cls, directory: str | Path) -> Tokenizer:
        """Read `tokenizer.json`, `tokenizer_config.json` and, where there is one, `chat_template.jinja`."""
        directory = Path(directory)
        definition = _read_json(directory / "tokenizer.json")
        config_path = directory / "tokenizer_config.json"
        config = _read_json(config_path) if config_path.exists() else {}
        template_path = directory / "chat_template.jinja"
        if template_path.exists():
            config["chat_template"] = template_path.read_text(encoding="utf-8")
        return cls(definition, config)

    def save(self, directory: str | Path) -> None:
        """Write the same files in the layout that `transformers.AutoTokenizer` and vLLM load."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self.config}
        _write_json(directory / "tokenizer.json", self.definition)
        _write_json(directory / "tokenizer_config.json", config)


def without_control(definition: Mapping[str, Any], added: Iterable[AddedToken]) -> dict[str, Any]:
    """The same vocabulary with no way for text to reach a control token."""
    control = {token.content for token in added if token.control}
    kept = [entry for entry in definition.get("added_tokens") or [] if entry["content"] not in control]
    return {**definition, "added_tokens": kept}


def _backend(definition: Mapping[str, Any]) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(definition, ensure_ascii=False))
    except Exception as error:  # the library raises bare Exception for a malformed definition
        raise CheckpointError(f"tokenizer.json cannot be used: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; a tokenizer directory holds tokenizer.json") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
