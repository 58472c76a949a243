"""tiktoken-style vocabularies: a file of byte strings with ranks, turned into a `tokenizer.json`.

A line holds a token, base64, and its rank, which is its id. Encoding joins, again and again, the neighbouring pair
whose concatenation has the lowest rank. A BPE with merges does the same if every pair of tokens that concatenates to a
token is a merge, in the order of the ranks; that is what is written.

How text is cut before merging, and which control tokens there are, the file does not say. `STYLES` holds that for the
families farthing knows, told apart by how many ranks they have and by what stands at rank 0.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from farthing.errors import CheckpointError
from farthing.text.bytelevel import token_bytes, token_text
from farthing.text.definition import beginning_with

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def gpt4_pattern(digit_group: int) -> str:
    """Where text is cut: contractions, words with at most one leading sign, digits in groups, signs, white space."""
    digits = r"\p{N}" if digit_group == 1 else rf"\p{{N}}{{1,{digit_group}}}"
    return rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|{_REST}"


@dataclass(frozen=True)
class Style:
    """What a family adds to its ranks.

    `patterns` are applied one after the other, each isolating what it matches. `whole_words`: a word that is a token
    is taken as it is, without merging. `unflagged`: control tokens that decoding keeps when it leaves special ones out.
    `start`: a control token put in front of every document. `named`: what a `tokenizer_config.json` would say.
    """

    patterns: tuple[str, ...]
    special: Mapping[str, int]
    unflagged: Mapping[str, int] = field(default_factory=dict)
    nfc: bool = False
    whole_words: bool = False
    start: str | None = None
    named: Mapping[str, str] = field(default_factory=dict)


_LLAMA3_NAMED = {
    "<|begin_of_text|>": 128000,
    "<|end_of_text|>": 128001,
    "<|finetune_right_pad_id|>": 128004,
    "<|start_header_id|>": 128006,
    "<|end_header_id|>": 128007,
    "<|eom_id|>": 128008,
    "<|eot_id|>": 128009,
    "<|python_tag|>": 128010,
}
_LLAMA3_RESERVED = [number for number in range(128000, 128256) if number not in _LLAMA3_NAMED.values()]
_DEEPSEEK_SPARE = {f"<｜place▁holder▁no▁{index}｜>": 128000 + index for index in range(798)}
_DEEPSEEK_TOOLS = (
    *("tool▁calls▁begin", "tool▁calls▁end", "tool▁call▁begin", "tool▁call▁end", "tool▁outputs▁begin"),
    *("tool▁outputs▁end", "tool▁output▁begin", "tool▁output▁end", "tool▁sep"),
)

STYLES: dict[str, Style] = {
    "qwen": Style(
        patterns=(gpt4_pattern(1),),
        special={"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645},
        nfc=True,
        named={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    ),
    "llama3": Style(
        patterns=(gpt4_pattern(3),),
        special=_LLAMA3_NAMED
        | {f"<|reserved_special_token_{index}|>": number for index, number in enumerate(_LLAMA3_RESERVED)},
        whole_words=True,
        start="<|begin_of_text|>",
        named={
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
            "pad_token": "<|finetune_right_pad_id|>",
        },
    ),
    "deepseek": Style(
        patterns=(
            r"\p{N}{1,3}",
            r"[一-龥\u3040-\u309f\u30a0-\u30ff]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        special={"<｜begin▁of▁sentence｜>": 0, "<｜end▁of▁sentence｜>": 1, "<｜▁pad▁｜>": 2}
        | _DEEPSEEK_SPARE,
        unflagged={"<think>": 128798, "</think>": 128799}
        | {"<｜fim▁hole｜>": 128800, "<｜fim▁begin｜>": 128801, "<｜fim▁end｜>": 128802}
        | {"<｜User｜>": 128803, "<｜Assistant｜>": 128804, "<|EOT|>": 128805}
        | {f"<｜{name}｜>": 128806 + index for index, name in enumerate(_DEEPSEEK_TOOLS)},
        start="<｜begin▁of▁sentence｜>",
        named={
            "bos_token": "<｜begin▁of▁sentence｜>",
            "eos_token": "<｜end▁of▁sentence｜>",
            "pad_token": "<｜▁pad▁｜>",
        },
    ),
}


def looks_like(data: bytes) -> bool:
    """Whether `data` is a file of ranks: its first line is base64 and a number."""
    words = data[:4096].split(b"\n", 1)[0].split()
    if len(words) != 2 or not words[1].isdigit():
        return False
    try:
        return bool(base64.b64decode(words[0], validate=True))
    except binascii.Error:
        return False


def parse(data: bytes, name: str) -> dict[bytes, int]:
    """Token bytes to rank. Some files spell their tokens in the byte-level alphabet instead of as bytes; that is
    recognized by the control token at rank 0 and undone.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise CheckpointError(
                f"{name}, line {number}: expected a token in base64 and a rank: {error}"
            ) from error
    if "<｜begin▁of▁sentence｜>".encode() in ranks:
        ranks = {token_bytes(token.decode("utf-8")): rank for token, rank in ranks.items()}
    return ranks


def detect(ranks: Mapping[bytes, int], name: str) -> Style:
    """The style of a released vocabulary."""
    if "<｜begin▁of▁sentence｜>".encode() in ranks:
        return STYLES["deepseek"]
    styles = {151643: "qwen", 128000: "llama3"}
    if len(ranks) in styles:
        return STYLES[styles[len(ranks)]]
    raise CheckpointError(
        f"{name}: {len(ranks)} ranks are of no family farthing knows (Qwen has 151643, Llama 3 and DeepSeek 128000); "
        "convert it to tokenizer.json first"
    )


def convert(ranks: Mapping[bytes, int], style: Style) -> dict[str, Any]:
    """A `tokenizer.json` that encodes as the ranks do."""
    control = {token.encode("utf-8") for token in style.special}
    spelled = {token: token_text(token) for token in ranks if token not in control}
    vocab = {text: ranks[token] for token, text in spelled.items()}
    vocab |= {token.decode("utf-8"): rank for token, rank in ranks.items() if token in control}
    model = {
        "type": "BPE",
        "ignore_merges": style.whole_words,
        "vocab": vocab,
        "merges": _merges(ranks, spelled),
    }
    return {
        "version": "1.0",
        "added_tokens": _added(style),
        "normalizer": {"type": "NFC"} if style.nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _cuts(style.patterns)},
        "post_processor": beginning_with(style.start, style.special[style.start]) if style.start else None,
        "decoder": _BYTE_LEVEL,
        "model": model,
    }


_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def _merges(ranks: Mapping[bytes, int], spelled: Mapping[bytes, str]) -> list[list[str]]:
    merges: list[list[str]] = []
    for token in sorted(spelled, key=ranks.__getitem__):
        for cut in range(1, len(token)):
            left, right = spelled.get(token[:cut]), spelled.get(token[cut:])
            if left is not None and right is not None:
                merges.append([left, right])
    return merges


def _added(style: Style) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokens = dict.fromkeys(style.special, True) | dict.fromkeys(style.unflagged, False)
    numbers = {**style.special, **style.unflagged}
    return [
        {"id": numbers[token], "content": token, **flags, "special": tokens[token]}
        for token in sorted(tokens, key=numbers.__getitem__)
    ]


def _cuts(patterns: tuple[str, ...]) -> list[dict[str, Any]]:
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return [*splits, _BYTE_LEVEL]
