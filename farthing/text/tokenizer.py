"""Text to token ids and back: one class for every vocabulary.

The vocabulary is always a Hugging Face `tokenizer.json`, carried out by the `tokenizers` library, so that
`transformers` and vLLM read the same directory and see the same ids. On top of it stands one rule of our own:
plain text never becomes a control token. `encode` keeps control tokens out unless asked for them by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import tokenizers

from farthing.errors import CheckpointError
from farthing.text import files
from farthing.text.added import AddedToken, Control, read_added
from farthing.text.definition import continuing, without_control
from farthing.text.stream import StreamDecoder, is_byte_fallback, speller, stream_decoder

Position = Literal["start", "after_control", "after_text"]


class Tokenizer:
    """A vocabulary with its control tokens and its chat template.

    `definition` is the parsed `tokenizer.json`, `config` the parsed `tokenizer_config.json`; both are kept whole,
    so that saving a tokenizer that was loaded writes back everything it was loaded with. Not to be changed after
    construction, but for `chat_template`.
    """

    def __init__(self, definition: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
        self.definition: dict[str, Any] = dict(definition)
        self.config: dict[str, Any] = dict(config or {})
        self.added: tuple[AddedToken, ...] = read_added(self.definition)
        self.control = Control(self.added)
        self._full = _backend(self.definition)
        for token in self.added:
            if self.token_id(token.content) != token.id:
                raise CheckpointError(
                    f"tokenizer.json gives {token.content} the id {token.id}, but it comes out as "
                    f"{self.token_id(token.content)}: ids of added tokens must follow the vocabulary without gaps"
                )

    # ---- text and ids

    def encode(self, text: str, *, special: bool = False, position: Position = "start") -> list[int]:
        """Token ids of `text`; nothing is put in front or behind (see `start_ids`).

        With `special=False` a control token spelled out in `text` is encoded as the ordinary characters it consists
        of; with `special=True` it becomes its single id: only for text that the program itself wrote. `position`
        matters to SentencePiece vocabularies alone, which write a space in front of a text that stands at the start.
        """
        backend = self._full if special else self._plain[position]
        return list(backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. `skip_special` leaves out role and end tokens."""
        if is_byte_fallback(self.definition):
            stream = self.stream(skip_special=skip_special)
            return "".join([stream.push(token_id) for token_id in ids]) + stream.flush()
        return str(self._full.decode(list(ids), skip_special_tokens=skip_special))

    def stream(self, *, skip_special: bool = False) -> StreamDecoder:
        """A decoder to be fed id by id; it never gives out half a character."""
        return stream_decoder(self._full, self.definition, skip_special=skip_special)

    def token_bytes(self, token_id: int) -> bytes:
        """What one token adds to a text; half a character where the vocabulary has such tokens."""
        return self._spelled(token_id)

    @cached_property
    def _spelled(self) -> Callable[[int], bytes]:
        return speller(self._full, self.definition)

    @cached_property
    def _plain(self) -> dict[Position, tokenizers.Tokenizer]:
        plain = without_control(self.definition, set(self.control.tokens))
        start = self._variant(plain)
        inner = continuing(plain, cut=False)
        cut = continuing(plain, cut=True)
        return {
            "start": start,
            "after_control": start if inner is None else self._variant(inner),
            "after_text": start if cut is None else self._variant(cut),
        }

    def _variant(self, definition: Mapping[str, Any]) -> tokenizers.Tokenizer:
        """A backend for a variant of the own definition, sharing the model with it where that is unchanged."""
        kept = [token for token in self.added if not token.control]
        if definition["model"] is not self.definition["model"] or any(
            token.content not in self.definition["model"]["vocab"] for token in kept
        ):
            return _backend(definition)
        # Reading a model of 150,000 tokens takes half a second; everything else takes none.
        empty = {"type": "BPE", "vocab": {}, "merges": []}
        backend = _backend({**definition, "added_tokens": [], "model": empty})
        backend.model = self._full.model
        flags = {entry["content"]: entry for entry in self.definition.get("added_tokens") or []}
        backend.add_tokens([_added_token(flags[token.content]) for token in kept])
        return backend

    # ---- the vocabulary

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id, control tokens included: the least number of embedding rows."""
        vocab: dict[str, int] = self._full.get_vocab(with_added_tokens=True)
        return max(vocab.values()) + 1

    def token_id(self, token: str) -> int | None:
        """The id of a token spelled exactly as in the vocabulary, or None."""
        found: int | None = self._full.token_to_id(token)
        return found

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Control tokens, name to id: what text from outside must never turn into."""
        return {name: token.id for name, token in self.control.tokens.items()}

    @property
    def eos_id(self) -> int | None:
        """The token that ends a turn or a document."""
        return self._named_id("eos_token")

    @property
    def bos_id(self) -> int | None:
        """The token that begins a document, where the vocabulary has one."""
        return self._named_id("bos_token")

    @property
    def pad_id(self) -> int | None:
        """The token that fills rows and means nothing."""
        return self._named_id("pad_token")

    @cached_property
    def start_ids(self) -> tuple[int, ...]:
        """What this vocabulary puts in front of a document that is not a conversation, usually its `bos_id`."""
        return tuple(self._full.encode("", add_special_tokens=True).ids)

    @cached_property
    def named_tokens(self) -> dict[str, str]:
        """The roles that `tokenizer_config.json` gives to tokens (`eos_token`, ...), by name; unset ones left out."""
        spelled = {
            key: value.get("content") if isinstance(value, Mapping) else value
            for key, value in self.config.items()
            if key.endswith("_token")
        }
        return {key: value for key, value in spelled.items() if isinstance(value, str)}

    def _named_id(self, key: str) -> int | None:
        name = self.named_tokens.get(key)
        return None if name is None else self.token_id(name)

    # ---- the chat template

    @property
    def chat_template(self) -> str:
        """The jinja source, or the empty string for a vocabulary without one."""
        template = self.config.get("chat_template", "")
        if isinstance(template, list):  # several under names; "default" is the one for conversations
            template = {entry["name"]: entry["template"] for entry in template}.get("default", "")
        return str(template or "")

    @chat_template.setter
    def chat_template(self, source: str) -> None:
        self.config["chat_template"] = source

    # ---- disk

    @classmethod
    def load(cls, directory: str | Path) -> Tokenizer:
        """Read a tokenizer directory: `tokenizer.json`, or failing that a vocabulary that can be converted into one
        (tiktoken ranks, SentencePiece). Raises `CheckpointError` for what is missing or malformed.
        """
        return cls(*files.read(Path(directory)))

    def save(self, directory: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` as `transformers.AutoTokenizer` and vLLM load them."""
        files.write(Path(directory), self.definition, self.config)


def _added_token(entry: Mapping[str, Any]) -> tokenizers.AddedToken:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return tokenizers.AddedToken(entry["content"], **{flag: bool(entry.get(flag)) for flag in flags})


def _backend(definition: Mapping[str, Any]) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(definition, ensure_ascii=False))
    except Exception as error:  # the library raises nothing narrower for a malformed definition
        raise CheckpointError(f"tokenizer.json cannot be used: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend
