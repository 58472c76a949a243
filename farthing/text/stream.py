"""Ids to text, one id at a time, without ever showing half a character.

The pieces given out, joined, are exactly what decoding all ids at once gives, for every sequence of ids, valid UTF-8
or not. A byte-level vocabulary is decoded byte by byte; any other by decoding a short window twice.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any, Protocol

import tokenizers


class StreamDecoder(Protocol):
    """`push` one id and take what is certain; `flush` gives the rest (U+FFFD for an unfinished character)."""

    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


def byte_alphabet() -> dict[str, int]:
    """The byte-level alphabet: printable bytes stand for themselves, the others for code points from 256 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    hidden = [byte for byte in range(256) if chr(byte) not in alphabet]
    alphabet.update({chr(256 + index): byte for index, byte in enumerate(hidden)})
    return alphabet


_ALPHABET = byte_alphabet()


class ByteStream:
    """For byte-level vocabularies: every token is a string of bytes, decoded as they come."""

    def __init__(self, backend: tokenizers.Tokenizer, skipped: frozenset[int]) -> None:
        self._backend = backend
        self._skipped = skipped
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        token = self._backend.id_to_token(token_id)
        if token is None or token_id in self._skipped:
            return ""
        return self._decoder.decode(token_bytes(token))

    def flush(self) -> str:
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def token_bytes(token: str) -> bytes:
    """The bytes a byte-level token stands for; a token with foreign characters (`<｜User｜>`) stands for itself."""
    if all(character in _ALPHABET for character in token):
        return bytes(_ALPHABET[character] for character in token)
    return token.encode("utf-8")


class WindowStream:
    """For the others: what the newest id adds is the decoded window with it less the window without it."""

    def __init__(self, backend: tokenizers.Tokenizer, skip_special: bool) -> None:
        self._backend = backend
        self._skip = skip_special
        self._ids: list[int] = []
        self._given = 0

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._decode()
        return self._give(text, len(text.rstrip("\ufffd")))

    def flush(self) -> str:
        text = self._decode()
        return self._give(text, len(text))

    def _decode(self) -> str:
        return str(self._backend.decode(self._ids, skip_special_tokens=self._skip))

    def _give(self, text: str, upto: int) -> str:
        piece = text[self._given : upto]
        self._given = max(self._given, upto)
        return piece


def stream_decoder(
    backend: tokenizers.Tokenizer, definition: Mapping[str, Any], *, skip_special: bool
) -> StreamDecoder:
    """The decoder that suits the vocabulary."""
    if (definition.get("decoder") or {}).get("type") == "ByteLevel":
        special = {entry["id"] for entry in definition.get("added_tokens") or [] if entry.get("special")}
        return ByteStream(backend, frozenset(special if skip_special else ()))
    return WindowStream(backend, skip_special)
