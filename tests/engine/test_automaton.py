"""An automaton ends completions early, and changes nothing else: what is drawn until then, and everybody else's, is the
same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from farthing.engine.api import Completion, Request
from farthing.engine.automaton import NEVER, Automaton
from farthing.engine.engine import Engine
from farthing.errors import EngineError
from farthing.models.decoder import Decoder

Make = Callable[..., list[Request]]
VOCAB = 61
# Token 0 leads to state 3, which is dead; of the others the odd ones lead to 2, where much is still needed.
CLASSES = np.array([0 if token < 1 else 1 + token % 2 for token in range(VOCAB)])
MOVES = np.array([[0, 0, 0], [3, 1, 2], [3, 2, 1], [3, 3, 3]])
NEEDS = np.array([1, 2, 5, NEVER])

ENGINES = {
    "roomy": {},
    "narrow": {"max_running": 3, "prefill_tokens": 6},
    "preempting": {"cache_tokens": 96, "prefill_tokens": 16},
    "keeping": {"cache_tokens": 224, "keep_prefixes": True, "prefill_tokens": 16},
}


@pytest.fixture(scope="module")
def automaton() -> Automaton:
    return Automaton(CLASSES, MOVES, NEEDS)


def cut(request: Request, whole: Completion) -> tuple[list[int], str]:
    """What the automaton leaves of a completion, by the tables and one token at a time."""
    state, limit = request.state, request.params.max_new_tokens
    for count, token in enumerate(whole.token_ids, 1):
        state = MOVES[state][CLASSES[token]]
        if token in request.params.stop_token_ids:
            return whole.token_ids[:count], "stop"
        if limit - count < NEEDS[state]:
            return whole.token_ids[:count], "broken" if state == 3 and count < limit else "length"
    raise AssertionError("a completion has an end")


@pytest.mark.parametrize("settings", ENGINES.values(), ids=ENGINES)
def test_rows_end_where_the_automaton_says_and_nothing_else_changes(
    settings: dict[str, int], model: Decoder, requests_of: Make, automaton: Automaton
) -> None:
    """Rows that wait, change places and are sent back to wait included."""
    requests = [
        replace(request, state=index % 4 if index % 4 < 3 else 1)
        for index, request in enumerate(requests_of(48, seed=3, lengths=(1, 40), new_tokens=(2, 40)))
    ]
    plain = Engine(model).generate([replace(request, state=0) for request in requests])
    engine = Engine(model, automaton=automaton, **settings)  # type: ignore[arg-type]
    found = engine.generate(requests)
    engine.check_integrity()
    for request, completion, whole in zip(requests, found, plain, strict=True):
        ids, reason = cut(request, whole)
        assert (completion.token_ids, completion.finish_reason) == (ids, reason)
        assert len(completion.logprobs) == len(completion.sampling_logprobs) == len(ids)
        if "max_running" not in settings and "cache_tokens" not in settings:
            assert completion.logprobs == whole.logprobs[: len(ids)], "to the bit"
    reasons = [one.finish_reason for one in found]
    assert {reasons.count(reason) > 2 for reason in ("stop", "length", "broken")} == {True}
    early = [
        one for one, whole in zip(found, plain, strict=True) if len(one.token_ids) < len(whole.token_ids)
    ]
    assert {one.finish_reason for one in early} == {"length", "broken"}


def test_sequences_that_were_sent_back_are_among_them(
    model: Decoder, requests_of: Make, automaton: Automaton
) -> None:
    """Their state is found again from what they had generated, not from where they began."""
    engine = Engine(model, automaton=automaton, **ENGINES["preempting"])  # type: ignore[arg-type]
    original, states = engine.seats.seat, []

    def seat(sequence: object) -> None:
        original(sequence)  # type: ignore[arg-type]
        if sequence.generated:  # type: ignore[attr-defined]
            states.append(int(engine.seats.columns.state[engine.seats.slot_of[sequence]]))  # type: ignore[index]

    engine.seats.seat = seat  # type: ignore[method-assign]
    requests = requests_of(48, seed=3, lengths=(1, 40), new_tokens=(2, 40))
    engine.generate([replace(request, state=1) for request in requests])
    assert len(states) > 3 and set(states) == {1, 2}, states


def test_requests_without_a_state_are_left_alone(
    model: Decoder, requests_of: Make, automaton: Automaton
) -> None:
    requests = requests_of(20, seed=4)
    assert Engine(model, automaton=automaton).generate(requests) == Engine(model).generate(requests)


def test_a_state_needs_an_automaton_that_has_it(
    model: Decoder, requests_of: Make, automaton: Automaton
) -> None:
    request = requests_of(1)[0]
    for engine, state in ((Engine(model), 1), (Engine(model, automaton=automaton), 4)):
        with pytest.raises(EngineError, match=f"no state {state}"):
            engine.add(replace(request, state=state))
