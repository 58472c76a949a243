"""Thoughts that end, grammars that begin behind them, biases and penalties; grammars on a real vocabulary."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farthing.engine.constraints import Steering, Thought, ThoughtRule, goes_in_circles, steering_from
from farthing.engine.grammar import Grammars, from_lark, from_regex, from_schema
from farthing.errors import EngineError
from farthing.text.bpe import train
from farthing.text.tokenizer import Tokenizer

OPEN, CLOSE, NEWLINE, STOP = 5, 6, 7, 1
SCHEMA = {
    "type": "object",
    "properties": {"evidence": {"type": "string", "maxLength": 12}, "verdict": {"enum": ["yes", "no"]}},
    "required": ["evidence", "verdict"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(['{"evidence": "olá 推理", "verdict": "yes"} and 3*8=24'] * 20, 330)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, tokenizer.vocab_size + 7, (STOP,))


def rule(**changes: object) -> ThoughtRule:
    return ThoughtRule(
        **({"open_id": OPEN, "close_id": CLOSE, "closing": (NEWLINE, CLOSE), "behind": (NEWLINE,)} | changes)
    )  # type: ignore[arg-type]


def drive(steering: Steering, wanted: list[int], vocab: int = 20) -> list[int]:
    """What comes out of a model that wants these tokens, one after the other, where it has a choice."""
    out = []
    for token in wanted:
        logits = torch.zeros(vocab)
        logits[token] = 5.0
        if steering.shapes:
            steering.shape(logits)
        token = int(logits.argmax())
        steering.accept(token)
        out.append(token)
    return out


def test_a_budget_closes_the_thought_with_its_closing_tokens() -> None:
    steering = Steering(thought=Thought(rule(is_open=True, budget=3), settle=False))
    assert drive(steering, [10] * 9) == [10, 10, 10, NEWLINE, CLOSE, NEWLINE, 10, 10, 10]
    assert steering.thought is not None
    assert steering.thought.why_closed == "budget"


@pytest.mark.parametrize("is_open", [True, False])
def test_a_budget_of_nothing(is_open: bool) -> None:
    steering = Steering(thought=Thought(rule(is_open=is_open, budget=0), settle=False))
    said = drive(steering, [10 if is_open else OPEN] + [10] * 4)
    assert said == ([] if is_open else [OPEN]) + [NEWLINE, CLOSE, NEWLINE, 10, 10][: 5 - (not is_open)]


def test_a_thought_that_closes_itself_is_left_alone() -> None:
    steering = Steering(thought=Thought(rule(is_open=True, budget=50), settle=False))
    assert drive(steering, [10, CLOSE, 11, 12]) == [10, CLOSE, 11, 12]
    assert not steering.shapes


def test_thoughts_begun_again_share_one_budget() -> None:
    steering = Steering(thought=Thought(rule(is_open=True, budget=4), settle=False))
    wanted = [10, 10, CLOSE, 11, OPEN, 10, 10, 10, 10, 11]
    assert drive(steering, wanted) == [10, 10, CLOSE, 11, OPEN, 10, 10, NEWLINE, CLOSE, NEWLINE]


def test_where_there_must_be_no_thought_its_tag_cannot_come() -> None:
    steering = Steering(thought=Thought(rule(forbid=True), settle=False))
    assert OPEN not in drive(steering, [OPEN, 10, OPEN, 10])


def test_the_answer_can_be_asked_for_at_any_time() -> None:
    steering = Steering(thought=Thought(rule(is_open=True), settle=False))
    assert drive(steering, [10, 10]) == [10, 10]
    steering.close_thought()
    steering.close_thought()
    assert drive(steering, [10] * 4) == [NEWLINE, CLOSE, NEWLINE, 10]
    steering.close_thought()
    assert drive(steering, [10] * 2) == [10, 10]


def test_a_thought_that_goes_in_circles_is_closed_and_one_that_does_not_is_not() -> None:
    steering = Steering(thought=Thought(rule(is_open=True), settle=False))
    said = drive(steering, [8 + index % 7 for index in range(400)])
    assert CLOSE in said[180:300]
    assert steering.thought is not None
    assert steering.thought.why_closed == "loop"
    rng = np.random.default_rng(0)
    steering = Steering(thought=Thought(rule(is_open=True), settle=False))
    assert CLOSE not in drive(steering, rng.integers(8, 20, 400).tolist())


@given(st.integers(1, 128), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_circles_are_found_whatever_their_period(period: int, before: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    motif = rng.integers(0, 1000, period)
    text = np.concatenate([rng.integers(0, 1000, before), np.resize(motif, max(192, 4 * period))])
    assert goes_in_circles(text)
    broken = text.copy()
    broken[-period // 2 - 1] = 1001
    assert not goes_in_circles(broken)


def test_biases_and_penalties_move_what_they_name() -> None:
    steering = Steering(bias={3: 100.0, 4: -100.0}, presence_penalty=1.0, frequency_penalty=0.5)
    for token in (6, 6, 8):
        steering.accept(token)
    logits = torch.zeros(10)
    steering.shape(logits)
    assert logits.tolist() == [0, 0, 0, 100, -100, 0, -2.0, 0, -1.5, 0]


def say(steering: Steering, tokenizer: Tokenizer, seed: int, longest: int = 400) -> list[int]:
    """What a model without opinions says under `steering`, up to its stop token."""
    rng = np.random.default_rng(seed)
    out: list[int] = []
    while len(out) < longest and out[-1:] != [STOP]:
        logits = torch.zeros(tokenizer.vocab_size + 7)
        if steering.shapes:
            steering.shape(logits)
        probabilities = torch.softmax(logits.double(), dim=-1).numpy()
        out.append(int(rng.choice(len(probabilities), p=probabilities / probabilities.sum())))
        steering.accept(out[-1])
    return out


@pytest.mark.parametrize("seed", range(8))
def test_a_grammar_behind_a_thought_gives_valid_json(
    tokenizer: Tokenizer, grammars: Grammars, seed: int
) -> None:
    thought = Thought(
        rule(is_open=True, budget=20, closing=(CLOSE,), behind=tuple(tokenizer.encode("\n\n"))), settle=True
    )
    steering = Steering((STOP,), thought=thought, grammar=grammars.start(from_schema(SCHEMA)))
    said = say(steering, tokenizer, seed)
    assert said[-1] == STOP
    assert said.count(CLOSE) == 1
    answer = tokenizer.decode(said[said.index(CLOSE) + 1 : -1])
    assert answer.startswith("\n\n{")
    assert json.loads(answer)["verdict"] in ("yes", "no")


@pytest.mark.parametrize("seed", range(4))
def test_a_grammar_begins_at_once_where_there_is_no_thought(
    tokenizer: Tokenizer, grammars: Grammars, seed: int
) -> None:
    for thought in (None, Thought(rule(forbid=True), settle=True)):
        steering = Steering((STOP,), thought=thought, grammar=grammars.start(from_regex("(ab|c)+[0-9]{3}")))
        said = say(steering, tokenizer, seed)
        assert re.fullmatch("(ab|c)+[0-9]{3}", tokenizer.decode(said[:-1]))


def test_a_grammar_makes_a_thinking_model_open_its_thought_first(
    tokenizer: Tokenizer, grammars: Grammars
) -> None:
    thought = Thought(rule(force_open=True, budget=5, closing=(CLOSE,), behind=()), settle=True)
    steering = Steering((STOP,), thought=thought, grammar=grammars.start(from_schema({"type": "integer"})))
    said = say(steering, tokenizer, 3)
    assert said[0] == OPEN
    int(tokenizer.decode(said[said.index(CLOSE) + 1 : -1]))


@pytest.mark.parametrize(
    ("grammar", "complaint"),
    [
        (from_schema({"type": "object", "unevaluatedProperties": False}), "unevaluatedProperties"),
        (from_schema({"$ref": "https://example.com/schema"}), "not fetch"),
        (from_schema({"type": "strange"}), "strange"),
        (from_regex("(?=a)b"), "look-ahead"),
        (from_regex("("), "unclosed"),
        (from_lark("start: nothing"), "unknown name"),
    ],
)
def test_what_a_grammar_cannot_do_is_named(grammars: Grammars, grammar: str, complaint: str) -> None:
    found = grammars.complaint(grammar)
    assert found is not None
    assert complaint in found
    assert "\n" not in found
    with pytest.raises(EngineError, match=complaint):
        grammars.start(grammar)


def test_a_grammar_that_fails_ends_its_own_request(grammars: Grammars) -> None:
    steering = Steering((STOP,), grammar=grammars.start(from_regex("[0-9]")))
    steering.accept(200)  # nothing that the grammar allowed
    assert steering.failure is not None
    logits = torch.zeros(300)
    steering.shape(logits)
    assert int(logits.argmax()) == STOP


def test_nothing_asked_for_is_no_constraint_at_all() -> None:
    assert steering_from({}, None, (1,)) is None
    assert steering_from({"bias": [], "presence": 0.0}, None, (1,)) is None
    steering = steering_from(
        {"thought": {"open_id": 5, "close_id": 6, "closing": [6], "budget": 2}}, None, (1,)
    )
    assert steering is not None
    assert not steering.shapes
