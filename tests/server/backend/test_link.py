"""Tokens on their way from the engine to those who wait for them."""

from __future__ import annotations

import asyncio
from typing import Any

from farthing.server.backend.link import EngineLink, Generation


def make() -> tuple[EngineLink, Generation]:
    link = EngineLink({}, threads=1)
    generation = Generation(link, "1", 0, asyncio.Event(), prompt_tokens=3)
    link.in_flight["1"] = generation
    return link, generation


def test_the_first_token_and_the_last_go_out_at_once_and_those_between_together() -> None:
    _, generation = make()

    def wakes(now: float, *more: dict[str, Any]) -> bool:
        generation.wake.clear()
        generation.push(["1", 5, -0.5, *more], now)
        return generation.wake.is_set()

    assert wakes(10.0)
    assert not wakes(10.01)
    assert not wakes(10.02)
    assert wakes(10.055)
    assert not wakes(10.06)
    assert wakes(10.07, {"end": "stop"})
    assert len(generation.take()) == generation.tokens == 6
    assert (generation.first_token, generation.ended) == (10.0, True)


def test_what_waits_goes_out_when_the_engine_has_other_work() -> None:
    link, generation = make()
    generation.push(["1", 5, -0.5], 10.0)
    generation.push(["1", 6, -0.5], 10.01)
    generation.wake.clear()
    link._take({"kind": "beat", "models": []})
    assert generation.wake.is_set()
    generation.take()
    generation.wake.clear()
    link._take({"kind": "beat", "models": []})
    assert not generation.wake.is_set(), "nobody is woken for nothing"
