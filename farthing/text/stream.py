"""Ids to text, one id at a time, without ever showing half a character.

For the usual vocabularies a token is a string of bytes: byte-level ones spell them in an alphabet, SentencePiece
ones write a space as `▁` and spell single bytes as `<0x0A>`. Their text is decoded as the bytes come. Any other
vocabulary is asked for the whole text again after each id. Either way the pieces, joined, are what
`Tokenizer.decode` gives.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import tokenizers

from farthing.text.bytelevel import token_bytes

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class StreamDecoder(Protocol):
    """`push` one id and take what is certain; `flush` gives the rest (U+FFFD for an unfinished character)."""

    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class ByteStream:
    """Tokens as bytes. `drop_space`: the vocabulary put a space before the text, the first one is not shown."""

    def __init__(
        self,
        bytes_of: Callable[[str], bytes],
        backend: tokenizers.Tokenizer,
        skipped: frozenset[int],
        drop_space: bool = False,
    ) -> None:
        self.bytes_of = bytes_of
        self._backend = backend
        self._skipped = skipped
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = drop_space

    def push(self, token_id: int) -> str:
        if token_id in self._skipped:
            return ""
        token = self._backend.id_to_token(token_id)
        return "" if token is None else self._shown(self._decoder.decode(self.bytes_of(token)))

    def flush(self) -> str:
        return self._shown(self._decoder.decode(b"", final=True))

    def _shown(self, text: str) -> str:
        if self._at_start and text:
            self._at_start = False
            return text.removeprefix(" ")
        return text


class WholeStream:
    """For vocabularies whose decoder is neither: what the newest id adds to the text of all ids."""

    def __init__(self, backend: tokenizers.Tokenizer, skip_special: bool) -> None:
        self._backend = backend
        self._skip_special = skip_special
        self._ids: list[int] = []
        self._given = ""

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        return self._give(self._text().rstrip("\ufffd"))

    def flush(self) -> str:
        return self._give(self._text())

    def _text(self) -> str:
        return str(self._backend.decode(self._ids, skip_special_tokens=self._skip_special))

    def _give(self, text: str) -> str:
        # A decoder that tidies up spaces may take back what it gave; then nothing is certain yet.
        if not text.startswith(self._given):
            return ""
        piece = text[len(self._given) :]
        self._given = text
        return piece


def stream_decoder(
    backend: tokenizers.Tokenizer, definition: Mapping[str, Any], *, skip_special: bool
) -> StreamDecoder:
    """The decoder that suits the vocabulary."""
    steps = _steps(definition.get("decoder"))
    kinds = [step.get("type") for step in steps]
    skipped = frozenset(
        entry["id"]
        for entry in definition.get("added_tokens") or []
        if skip_special and entry.get("special", False)
    )
    if kinds == ["ByteLevel"]:
        return ByteStream(token_bytes, backend, skipped)
    if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
        return ByteStream(_piece_bytes, backend, skipped, drop_space=kinds[3:] == ["Strip"])
    return WholeStream(backend, skip_special)


def speller(backend: tokenizers.Tokenizer, definition: Mapping[str, Any]) -> Callable[[int], bytes]:
    """A function: the bytes that one token adds to a text, which need not be whole characters; empty for an unknown
    id."""
    stream = stream_decoder(backend, definition, skip_special=False)

    def spelled(token_id: int) -> bytes:
        token = backend.id_to_token(token_id)
        if token is None:
            return b""
        if isinstance(stream, ByteStream):
            return stream.bytes_of(token)
        return str(backend.decode([token_id], skip_special_tokens=False)).encode()

    return spelled


def is_byte_fallback(definition: Mapping[str, Any]) -> bool:
    """Whether the vocabulary is decoded as SentencePiece with single bytes: there the library gives up a whole run
    of bytes for one bad one, and farthing decodes by itself.
    """
    return any(step.get("type") == "ByteFallback" for step in _steps(definition.get("decoder")))


def _steps(decoder: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    if not decoder:
        return []
    steps = decoder.get("decoders")
    return list(steps) if decoder.get("type") == "Sequence" and isinstance(steps, list) else [decoder]


def _piece_bytes(token: str) -> bytes:
    spelled = _BYTE.fullmatch(token)
    return bytes([int(spelled[1], 16)]) if spelled else token.replace("▁", " ").encode("utf-8")
