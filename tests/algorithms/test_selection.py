"""Problems at rest: how long they sit out, and that a written state goes on as if nothing had happened."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from farthing.algorithms.selection import Rests


def passes_visited(outcomes: list[bool], passes: int) -> list[int]:
    """The passes in which one problem is visited, given how each visit goes (the last for ever)."""
    rests, visited = Rests(), []
    for at in range(passes):
        if rests.is_due("a", at):
            rests.visited("a", at, outcomes[min(len(visited), len(outcomes) - 1)])
            visited.append(at)
    return visited


def test_what_teaches_is_due_every_pass() -> None:
    assert passes_visited([True], 5) == [0, 1, 2, 3, 4]


def test_what_teaches_nothing_sits_out_1_3_7_and_then_always_7_passes() -> None:
    assert passes_visited([False], 40) == [0, 2, 6, 14, 22, 30, 38]


def test_one_lesson_ends_the_rest() -> None:
    assert passes_visited([False, False, True, True, False], 12) == [0, 2, 6, 7, 8, 10]


def test_others_are_not_concerned() -> None:
    rests = Rests()
    rests.visited("a", 0, taught=False)
    assert not rests.is_due("a", 1) and rests.is_due("b", 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(0, 30))
def test_a_written_state_goes_on_as_if_nothing_had_happened(visits: list[tuple[str, bool]], cut: int) -> None:
    whole, broken = Rests(), Rests()
    for at, (key, taught) in enumerate(visits):
        if at == cut:
            state = json.loads(json.dumps(broken.state()))
            broken = Rests()
            broken.load_state(state)
        for rests in (whole, broken):
            rests.visited(key, at, taught)
    assert broken.state() == whole.state()
    assert all(whole.is_due(key, at) == broken.is_due(key, at) for key in "abc" for at in range(50))
