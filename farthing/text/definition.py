"""Variants of a vocabulary, made by editing its parsed `tokenizer.json`; the original is never changed.

Two things that `tokenizers` has no switch for: a vocabulary whose control tokens no text can reach, and one that puts
no space in front of a text that continues another.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from farthing.text.bytelevel import token_text

Definition = dict[str, Any]
_SECRET = secrets.token_hex(16)


def without_control(definition: Mapping[str, Any], control: set[str]) -> Definition:
    """The same vocabulary, in which no text comes out as one of the tokens named in `control`; all ids stay.

    Leaving them out of the added tokens is not enough: a merge, a whole-word look-up or a unigram piece may still
    spell one of them.
    """
    added = [
        {**entry, "content": _hidden(entry["content"], control)}
        for entry in definition.get("added_tokens") or []
    ]
    return {
        **definition,
        "added_tokens": added,
        "model": _out_of_reach(definition.get("model") or {}, control),
    }


def _out_of_reach(model: Mapping[str, Any], control: set[str]) -> Mapping[str, Any]:
    """The model with no way to a control token; the same object if there was none to begin with."""
    vocab = model.get("vocab")
    if isinstance(vocab, list):  # unigram: pieces with scores, ids are positions
        return {**model, "vocab": [[_hidden(piece, control), score] for piece, score in vocab]}
    # The byte-level alphabet spells "<｜User｜>" in other characters; both spellings count.
    spelled = control | {token_text(token.encode("utf-8")) for token in control}
    if not isinstance(vocab, dict) or spelled.isdisjoint(vocab):
        return model
    # The model itself names its unknown token, which steers nothing.
    hidden = control - {model.get("unk_token")}
    edited = {**model, "vocab": {_hidden(piece, hidden): number for piece, number in vocab.items()}}
    if "merges" in model:
        edited["merges"] = [merge for merge in model["merges"] if not _meets(merge, spelled)]
    return edited


def _meets(merge: str | Sequence[str], control: set[str]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left + right in control or left in control or right in control


def _hidden(piece: str, control: set[str]) -> str:
    # Nobody can spell what nobody knows.
    return f"{_SECRET} {piece}" if piece in control else piece


def continuing(definition: Mapping[str, Any], *, cut: bool) -> Definition | None:
    """The same vocabulary for a text that stands behind another one, or None where that makes no difference.

    SentencePiece vocabularies put a space in front: before the whole text only (`"first"`), or before every stretch
    between control tokens (`"always"`). With `cut=False` the text follows a control token: `"first"` adds nothing.
    With `cut=True` it follows ordinary text: nothing is ever added.
    """

    def edit(node: Mapping[str, Any]) -> Definition | None:
        if node.get("type") == "Metaspace" and (cut or node.get("prepend_scheme") == "first"):
            return {**node, "prepend_scheme": "never"}
        if cut and node.get("type") == "ByteLevel":
            return {**node, "add_prefix_space": False}
        return None if cut and node.get("type") == "Prepend" else dict(node)

    parts = ("normalizer", "pre_tokenizer")
    edited = {**definition, **{part: _mapped(definition.get(part), edit) for part in parts}}
    return edited if any(edited[part] != definition.get(part) for part in parts) else None


def _mapped(node: Any, edit: Callable[[Mapping[str, Any]], Definition | None]) -> Any:
    """A normalizer or pre-tokenizer with `edit` applied to each of its steps; None leaves a step out."""
    if not isinstance(node, Mapping):
        return node
    for key in ("normalizers", "pretokenizers"):
        if node.get("type") == "Sequence" and key in node:
            steps = [_mapped(step, edit) for step in node[key]]
            return {**node, key: [step for step in steps if step is not None]}
    return edit(node)


def with_fixed_ids(definition: Mapping[str, Any]) -> Definition:
    """The same vocabulary with added tokens whose ids leave gaps entered in the model's own table.

    The library numbers added tokens one after the other, whatever the file says, unless the model knows them.
    """
    model = definition.get("model") or {}
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        return dict(definition)
    added = definition.get("added_tokens") or []
    new = {entry["content"]: entry["id"] for entry in added if entry["content"] not in vocab}
    if list(new.values()) == list(range(len(vocab), len(vocab) + len(new))):
        return dict(definition)
    return {**definition, "model": {**model, "vocab": {**vocab, **new}}}


def beginning_with(token: str, token_id: int) -> dict[str, Any]:
    """The post-processor that puts one control token in front of a document."""
    first, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }
