"""The automaton of a turn's form against the verifier's own reading, token by token and by trying all that may come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.engine.automaton import NEVER, Automaton
from farthing.rollout.form import automaton, opening
from farthing.tasks.verifiers.format import read
from farthing.text import bpe
from farthing.text.tokenizer import Tokenizer

CLEAN = ("<think>", "</think>", "<answer>", "</answer>", "5", " ")
TEXTS = (*CLEAN, "\n", "ab", "<|user|>", "<", "</", ">", "think", "answer", "/", "\u3000", "é")
WHOLE = ("<think>", "</think>", "<answer>", "5", "</answer>")
"""The shortest turn that is well-formed and has an answer; no turn needs more tokens than it has."""
WAYS = ["".join(WHOLE[start:]) for start in range(len(WHOLE) + 1)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bpe.train(["5 ab think answer > < </ think>"] * 40, 300)


@pytest.fixture(scope="module")
def turns(tokenizer: Tokenizer) -> Automaton:
    found = automaton(tokenizer, 400)
    assert found is not None
    return found


def ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    return [token for text in texts for token in tokenizer.encode(text, special=True)]


def test_what_may_come_is_one_token_each(tokenizer: Tokenizer) -> None:
    assert all(len(tokenizer.encode(text, special=True)) == 1 for text in CLEAN)


def continuations(most: int) -> Iterator[tuple[int, str]]:
    """(tokens, text) of everything that may come, up to `most` tokens of the small alphabet, the shortest first."""
    for count in range(most + 1):
        yield from ((count, "".join(more)) for more in product(CLEAN, repeat=count))


@cache
def may_be_well_formed(text: str) -> bool:
    return any(read(text + more).well_formed for _, more in continuations(len(WHOLE)))


@cache
def fewest_to_an_answer(text: str) -> int:
    return next(count for count, more in continuations(4) if read(text + more).answer)


def hold(tokenizer: Tokenizer, turns: Automaton, text: str, ids: Sequence[int]) -> int:
    """What the automaton says of a turn holds; returns it."""
    needs = int(turns.needs_S[turns.after(opening(turns, tokenizer, "tags", ""), ids)])
    if needs == NEVER:
        assert read(text).answer is not None
        assert not may_be_well_formed(text)
    elif needs > 1:
        assert fewest_to_an_answer(text) == needs
    return needs


@given(st.lists(st.sampled_from(TEXTS), max_size=14))
@settings(deadline=None, max_examples=40)
def test_what_it_says_holds_for_everything_that_may_come(
    tokenizer: Tokenizer, turns: Automaton, texts: list[str]
) -> None:
    """Tags spelled out, white space of half characters and control tokens included. Cut anywhere, half-way through a
    character too."""
    ids = ids_of(tokenizer, texts)
    for size in range(len(ids) + 1):
        if hold(tokenizer, turns, tokenizer.decode(ids[:size]), ids[:size]) == NEVER:
            break


@given(st.lists(st.sampled_from(CLEAN), max_size=9))
@settings(deadline=None, max_examples=60)
def test_where_nothing_is_spelled_out_it_misses_nothing(
    tokenizer: Tokenizer, turns: Automaton, texts: list[str]
) -> None:
    """A turn that has an answer and can be well-formed no more is over, and no other."""
    for size in range(len(texts) + 1):
        text = "".join(texts[:size])
        needs = hold(tokenizer, turns, text, ids_of(tokenizer, texts[:size]))
        attainable = any(read(text + more).well_formed for more in WAYS)
        assert (needs == NEVER) == (read(text).answer is not None and not attainable)
        if needs == NEVER:
            break


TURNS = [
    ("<think>3*8</think>\n<answer>24</answer>", 1),
    ("<think>3*8</think>\n<answer>24</answer>\n", 1),
    ("<think>3*8</think><answer>24</answer><|user|>", NEVER),
    ("<think>3*8</think><answer>24</answer><", 1),
    ("<think>a < b</think><answer>24</answer>and", 1),
    ("<answer>24</answer>", NEVER),
    ("so <answer>24", 1),
    ("so", 3),
    ("<think>", 4),
    ("<think></think><think>", 4),
    ("<think></think><answer> ", 2),
    ("<think></think><answer></answer>", 3),
    ("<think></think><answer>\u3000</answer>more", 1),
    ("<think>\u3000</think>", 3),
    ("<think></think><answer>1</answer>\u3000", 1),
]


@pytest.mark.parametrize(("text", "needs"), TURNS)
def test_by_hand(tokenizer: Tokenizer, turns: Automaton, text: str, needs: int) -> None:
    assert hold(tokenizer, turns, text, tokenizer.encode(text, special=True)) == needs


def test_what_the_template_wrote_counts(tokenizer: Tokenizer, turns: Automaton) -> None:
    for prefill, needs in (("", 3), ("<think>\n", 4), ("<think>\n\n</think>\n\n", 3)):
        assert turns.needs_S[opening(turns, tokenizer, "tags", prefill)] == needs


def test_other_forms_are_never_over(tokenizer: Tokenizer, turns: Automaton) -> None:
    for form in ("boxed", "free", None):
        assert opening(turns, tokenizer, form, "<think>") == 0  # type: ignore[arg-type]


def test_a_row_of_the_model_that_is_no_token_may_be_anything(tokenizer: Tokenizer, turns: Automaton) -> None:
    assert len(turns.classes_V) == 400 > tokenizer.vocab_size
    done = turns.after(opening(turns, tokenizer, "tags", ""), tokenizer.encode(TURNS[0][0], special=True))
    assert turns.after(done, [399]) == 0
    assert turns.step(np.array([done, 0]), np.array([399, 5])).tolist() == [0, 0]


@pytest.mark.parametrize("change", ["no tag", "a tag and more"])
def test_vocabularies_that_spell_their_tags_have_none(tokenizer: Tokenizer, change: str) -> None:
    added = [dict(entry) for entry in tokenizer.definition["added_tokens"]]
    for entry in added:
        if entry["content"] == ("</answer>" if change == "no tag" else "<|user|>"):
            entry["content"] = "</response>" if change == "no tag" else "</think>\n"
    vocab = {next((a["content"] for a in added if a["id"] == i), name): i
             for name, i in tokenizer.definition["model"]["vocab"].items()}  # fmt: skip
    definition = {**tokenizer.definition, "added_tokens": added,
                  "model": {**tokenizer.definition["model"], "vocab": vocab}}  # fmt: skip
    other = Tokenizer(definition, {**tokenizer.config, "chat_template": ""})
    assert automaton(other, 400) is None
    assert opening(None, other, "tags", "<think>") == 0
