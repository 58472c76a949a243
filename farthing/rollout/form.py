"""Where a turn stands in its form, token by token: how far from an answer, and whether its reward is decided already.

This is `tasks.verifiers.format.read` for the form "tags", as an automaton for the engine. A turn is over where it has
an answer and can be well-formed no more: nothing that may come would earn more, but for another answer in a turn whose
form is broken, which no longer counts. A turn without an answer goes on, whatever its form, as long as there is room
for one. The forms "boxed" and "free" take their answer from the whole rest of the turn, so they are never over.

What is not certain counts as open: a token that may be part of a tag spelled out, half a character where only white
space may stand. A vocabulary that lacks a tag as one token has no automaton.
"""

from __future__ import annotations

import numpy as np

from farthing.engine.automaton import NEVER, Automaton
from farthing.tasks.verifiers.format import Form
from farthing.text.tokenizer import Tokenizer

TAGS = (b"<think>", b"</think>", b"<answer>", b"</answer>")
_BEGUN = tuple(tag[:size] for tag in TAGS for size in range(1, len(tag)))

# Classes of tokens: white space, any other text, half a character, what may begin a tag, and the four tags.
SPACE, TEXT, HALF, UNSURE, *_TAG_CLASSES = range(4 + len(TAGS))
# From each state, where text, half a character and the four tags lead. White space leads nowhere, what may begin a tag
# to "open"; "lost" turns can be well-formed no more and have no answer yet, "over" ones have one.
_MOVES: dict[str, tuple[str, ...]] = {
    "open": ("open", "open", "open", "open", "open", "open"),
    "begun": ("lost", "open", "thinking", "lost", "lost answer", "lost"),
    "thinking": ("thinking", "thinking", "lost thinking", "thought", "lost thinking", "lost thinking"),
    "thought": ("lost", "open", "lost thinking", "lost", "answer", "lost"),
    "answer": ("answered", "open", "lost answered", "lost answered", "lost answered", "lost"),
    "answered": ("answered", "answered", "lost answered", "lost answered", "lost answered", "done"),
    "done": ("over", "open", "over", "over", "over", "over"),
    "lost": ("lost", "lost", "lost thinking", "lost", "lost answer", "lost"),
    "lost thinking": ("lost thinking", "lost thinking", "lost thinking", "lost", *["lost thinking"] * 2),
    "lost answer": ("lost answered", "open", "lost answered", "lost answered", "lost answered", "lost"),
    "lost answered": (*["lost answered"] * 5, "over"),
    "over": ("over", "over", "over", "over", "over", "over"),
}
_STATES = {name: number for number, name in enumerate(_MOVES)}
# Tokens without which there is no answer: the tags that are missing, and one for its text.
_NEEDS = {
    "begun": 3, "thinking": 4, "thought": 3, "answer": 2,
    "lost": 3, "lost thinking": 4, "lost answer": 2,
    "over": NEVER,
}  # fmt: skip


def automaton(tokenizer: Tokenizer, vocab_size: int) -> Automaton | None:
    """The automaton of turns in tags, for a model with `vocab_size` tokens; None where the tokenizer does not have each
    tag as one token, or has tokens that hold a tag and more."""
    found = [_class_of(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
    classes = [one for one in found if one is not None]
    if len(classes) < len(found) or not set(_TAG_CLASSES) <= set(classes):
        return None
    classes_V = np.full(max(vocab_size, len(classes)), UNSURE, np.int64)
    classes_V[: len(classes)] = classes
    moves_SC = np.zeros((len(_STATES), 4 + len(TAGS)), np.int64)
    for state, (text, half, *tags) in _MOVES.items():
        row = moves_SC[_STATES[state]]
        row[SPACE], row[TEXT], row[HALF] = _STATES[state], _STATES[text], _STATES[half]
        row[_TAG_CLASSES] = [_STATES[name] for name in tags]
    needs_S = np.array([_NEEDS.get(name, 1) for name in _STATES], np.int64)
    return Automaton(classes_V, moves_SC, needs_S)


def _class_of(spelled: bytes) -> int | None:
    """The class of a token by what it adds to a text; None for one that holds a tag and more."""
    if spelled in TAGS:
        return _TAG_CLASSES[TAGS.index(spelled)]
    if any(tag in spelled for tag in TAGS):
        return None
    if spelled.endswith(_BEGUN):
        return UNSURE
    text = spelled.decode(errors="replace")
    if "\ufffd" in text:
        return HALF
    return TEXT if text.strip() else SPACE


def opening(automaton: Automaton | None, tokenizer: Tokenizer, form: Form | None, prefill: str) -> int:
    """The state in which a completion begins, behind what the template wrote of the turn; `form` None: of no form."""
    if automaton is None or form != "tags":
        return 0
    return automaton.after(_STATES["begun"], tokenizer.encode(prefill, special=True))
