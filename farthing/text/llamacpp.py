"""A vocabulary in the terms of GGUF files, which llama.cpp and Ollama read.

llama.cpp carries no patterns in its files: text is cut by what a name says, so a vocabulary whose pattern has no
name there is refused rather than written under a wrong one. Names and patterns: llama.cpp, src/llama-vocab.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farthing.errors import CheckpointError
from farthing.text.ranks import STYLES, gpt4_pattern
from farthing.text.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
# (patterns, a word that is a token is taken whole) -> name. "dbrx" is Llama 3's pattern without that rule.
CUTS: dict[tuple[tuple[str, ...], bool], str] = {
    ((gpt4_pattern(1),), False): "qwen2",
    ((gpt4_pattern(3),), False): "dbrx",
    ((gpt4_pattern(3),), True): "llama-bpe",
    (STYLES["deepseek"].patterns, False): "deepseek-v3",
}
# Below every merge: a piece that no merge makes is never chosen for its score.
NEVER_MERGED = -1e6


@dataclass(frozen=True)
class Vocabulary:
    """The fields `tokenizer.ggml.*`. `model` is "gpt2" (byte-level BPE, `pre` names how text is cut, `merges` in order)
    or "llama" (SentencePiece BPE, `scores` order the merges); what the other kind needs is empty."""

    model: str
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    scores: tuple[float, ...]
    space_in_front: bool
    begins_with_bos: bool


def vocabulary(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    """The vocabulary of a model with `rows` embedding rows; rows without a token get a name and are marked unused.

    Raises CheckpointError for a vocabulary that llama.cpp could not cut or merge in the same way.
    """
    model = tokenizer.definition["model"]
    if model.get("type", "BPE") != "BPE":
        raise CheckpointError(f"GGUF: a {model['type']} vocabulary cannot be written, only BPE")
    by_bytes = not model.get("byte_fallback")
    merges = tuple(_joined(merge) for merge in model.get("merges", []))
    tokens = _tokens(tokenizer, rows)
    return Vocabulary(
        model="gpt2" if by_bytes else "llama",
        pre=_cut(tokenizer.definition) if by_bytes else "default",
        tokens=tokens,
        types=_types(tokenizer, tokens, by_bytes),
        merges=merges if by_bytes else (),
        scores=() if by_bytes else _scores(tokens, merges),
        space_in_front="Prepend" in str(tokenizer.definition.get("normalizer")),
        begins_with_bos=bool(tokenizer.start_ids) and tokenizer.start_ids[0] == tokenizer.bos_id,
    )


def _joined(merge: Any) -> str:
    return merge if isinstance(merge, str) else " ".join(merge)


def _tokens(tokenizer: Tokenizer, rows: int) -> tuple[str, ...]:
    tokens = [f"[UNUSED{index}]" for index in range(rows)]
    for text, index in tokenizer.definition["model"]["vocab"].items():
        tokens[index] = text
    for added in tokenizer.added:
        tokens[added.id] = added.content
    return tuple(tokens)


def _types(tokenizer: Tokenizer, tokens: tuple[str, ...], by_bytes: bool) -> tuple[int, ...]:
    types = [NORMAL] * len(tokens)
    known = set(tokenizer.definition["model"]["vocab"].values())
    for index, text in enumerate(tokens):
        if index not in known:
            types[index] = UNUSED
        elif not by_bytes and len(text) == 6 and text.startswith("<0x"):
            types[index] = BYTE
    unknown = tokenizer.definition["model"].get("unk_token")
    for added in tokenizer.added:
        # Tags of thinking are not flagged as special: llama.cpp then shows them, and who reads the output finds them.
        types[added.id] = CONTROL if added.special else USER_DEFINED
        if added.content == unknown and not by_bytes:
            types[added.id] = UNKNOWN
    return tuple(types)


def _cut(definition: Mapping[str, Any]) -> str:
    steps = definition.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    patterns = tuple(step["pattern"].get("Regex", "") for step in steps if step.get("type") == "Split")
    whole = bool(definition["model"].get("ignore_merges"))
    if (patterns, whole) not in CUTS:
        raise CheckpointError(
            f"GGUF: llama.cpp has no name for how this vocabulary cuts text ({' | '.join(patterns) or 'no pattern'}); "
            "of vocabularies trained here, digit_group = 1 and 3 have one"
        )
    return CUTS[patterns, whole]


def _scores(tokens: tuple[str, ...], merges: tuple[str, ...]) -> tuple[float, ...]:
    """llama.cpp joins the pair whose result has the highest score: earlier merges get higher ones."""
    first: dict[str, float] = {}
    for place, merge in enumerate(merges):
        first.setdefault(merge.replace(" ", "", 1), -float(place))
    return tuple(first.get(text, NEVER_MERGED) for text in tokens)
