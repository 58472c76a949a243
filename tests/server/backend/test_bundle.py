"""Tokens on their way from the engine to those who wait for them."""

from __future__ import annotations

from typing import Any

from farthing.server.backend.bundle import LONGEST_SECONDS, SECONDS_EACH, Bundle, Row


def token(name: str, number: int, **more: Any) -> Row:
    return [name, number, -0.5, *([more] if more else [])]


def test_one_reply_gets_every_token_at_once() -> None:
    bundle = Bundle()
    for number in range(5):
        row = token("a", number)
        assert bundle.due([row], 1, 10 + number * 0.001) == [row]


def test_many_replies_get_theirs_together_and_wait_no_longer_than_people_see() -> None:
    for replies, wait in ((2, 2 * SECONDS_EACH), (16, 16 * SECONDS_EACH), (1000, LONGEST_SECONDS)):
        bundle = Bundle()
        assert bundle.due([token("a", 0)], replies, 10.0) == [token("a", 0)]
        assert bundle.due([token("a", 1), token("b", 1)], replies, 10.0 + 0.5 * wait) == []
        assert bundle.due([token("b", 2)], replies, 10.001 + wait) == [
            token("a", 1), token("b", 1), token("b", 2)
        ]  # fmt: skip
        assert bundle.due([], replies, 11.0) == []


def test_a_first_token_and_a_last_go_out_at_once_with_what_is_held_of_that_reply_alone() -> None:
    bundle = Bundle()
    bundle.due([], 16, 10.0)
    first, last = token("c", 0, prefill=0.1), token("a", 2, end="stop")
    assert bundle.due([token("a", 1), token("b", 1, top=[])], 16, 10.01) == []
    assert bundle.due([first], 16, 10.02) == [first]
    assert bundle.due([last, token("b", 2)], 16, 10.03) == [token("a", 1), last]
    assert bundle.all() == [token("b", 1, top=[]), token("b", 2)]
    assert bundle.all() == []
