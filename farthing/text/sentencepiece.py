"""SentencePiece models (`tokenizer.model`) turned into a `tokenizer.json`.

The file is a protocol buffer; the few fields that matter are read here, so that the library is not needed. BPE models
become a BPE with every pair of pieces that concatenates to a piece as a merge, in the order of the scores, which is
how SentencePiece joins; unigram models keep their pieces and scores.

Not covered: white space as a suffix, word and character models, pieces marked unused (they stay usable).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from farthing.errors import CheckpointError
from farthing.text.definition import beginning_with

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE = 1, 2


class Piece(NamedTuple):
    """One entry of the vocabulary; its place in the list is its id."""

    text: str
    score: float
    kind: int


@dataclass
class Model:
    """The parts of a `ModelProto` that encoding depends on; defaults are those of the format."""

    pieces: list[Piece] = field(default_factory=list)
    kind: int = UNIGRAM
    suffix: bool = False
    charsmap: bytes = b""
    dummy_prefix: bool = True
    tidy_spaces: bool = True
    escape_spaces: bool = True


def convert(data: bytes, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A `tokenizer.json` that encodes as the model does. `config` (`tokenizer_config.json`) says whether documents
    begin with the `bos_token`. Raises `CheckpointError` for what is no such model or not covered.
    """
    model = parse(data, name)
    if model.kind not in (UNIGRAM, BPE) or model.suffix or not model.escape_spaces:
        raise CheckpointError(
            f"{name}: only unigram and BPE models with white space as a prefix are supported"
        )
    return {
        "version": "1.0",
        "added_tokens": _added(model),
        "normalizer": _normalizer(model),
        "pre_tokenizer": None,
        "post_processor": _start(model, config),
        "decoder": _decoder(model),
        "model": _bpe(model) if model.kind == BPE else _unigram(model),
    }


def parse(data: bytes, name: str) -> Model:
    """Read the protocol buffer."""
    model = Model()
    try:
        for number, value in _fields(data):
            if number == 1:
                model.pieces.append(_piece(_message(value)))
            elif number == 2:
                trainer = _message(value)
                model.kind = trainer.get(3, UNIGRAM)
                model.suffix = bool(trainer.get(24, 0))
            elif number == 3:
                normalizer = _message(value)
                model.charsmap = normalizer.get(2, b"")
                model.dummy_prefix = bool(normalizer.get(3, 1))
                model.tidy_spaces = bool(normalizer.get(4, 1))
                model.escape_spaces = bool(normalizer.get(5, 1))
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise CheckpointError(f"{name}: not a SentencePiece model: {error}") from error
    if not model.pieces:
        raise CheckpointError(f"{name}: not a SentencePiece model: it holds no pieces")
    return model


def _piece(fields: Mapping[int, Any]) -> Piece:
    score = struct.unpack("<f", fields[2])[0] if 2 in fields else 0.0
    return Piece(fields[1].decode("utf-8"), score, fields.get(3, NORMAL))


def _message(value: Any) -> dict[int, Any]:
    if not isinstance(value, bytes):
        raise ValueError("a number stands where a message should")
    return dict(_fields(value))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer message: varints as int, everything else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}[kind]
        if at + size > len(data):
            raise ValueError("the file ends in the middle of a field")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _bpe(model: Model) -> dict[str, Any]:
    return {
        "type": "BPE",
        "unk_token": _unknown(model).text,
        "fuse_unk": True,
        "byte_fallback": _falls_back(model),
        "vocab": {piece.text: number for number, piece in enumerate(model.pieces)},
        "merges": _merges(model),
    }


def _merges(model: Model) -> list[list[str]]:
    usable = {piece.text: piece.score for piece in model.pieces if piece.kind in (NORMAL, UNUSED)}
    # Characters have the lowest scores and are never a merge; sorting is stable, so equal scores keep their ids' order.
    merges: list[list[str]] = []
    for text in sorted(usable, key=lambda text: -usable[text]):
        for cut in range(1, len(text)):
            if text[:cut] in usable and text[cut:] in usable:
                merges.append([text[:cut], text[cut:]])
    return merges


def _unigram(model: Model) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": model.pieces.index(_unknown(model)),
        "byte_fallback": _falls_back(model),
        "vocab": [[piece.text, piece.score] for piece in model.pieces],
    }


def _unknown(model: Model) -> Piece:
    for piece in model.pieces:
        if piece.kind == UNKNOWN:
            return piece
    raise CheckpointError("the SentencePiece model has no piece for what is unknown")


def _falls_back(model: Model) -> bool:
    return any(piece.kind == BYTE for piece in model.pieces)


def _added(model: Model) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {
            "id": number,
            "content": piece.text.replace("▁", " ") if piece.kind == USER_DEFINED else piece.text,
            **flags,
            "special": piece.kind != USER_DEFINED,
        }
        for number, piece in enumerate(model.pieces)
        if piece.kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]


def _normalizer(model: Model) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.tidy_spaces:
        # Spaces only: a line break is a character like any other.
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if model.dummy_prefix:
        steps.append({"type": "Prepend", "prepend": "▁"})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    return {"type": "Sequence", "normalizers": steps}


def _decoder(model: Model) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if model.dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _start(model: Model, config: Mapping[str, Any]) -> dict[str, Any] | None:
    bos = config.get("bos_token")
    bos = bos.get("content") if isinstance(bos, Mapping) else bos
    ids = [number for number, piece in enumerate(model.pieces) if piece.text == bos]
    if not isinstance(bos, str) or not config.get("add_bos_token") or not ids:
        return None
    return beginning_with(bos, ids[0])
