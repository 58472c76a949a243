"""Who is in memory and who waits, with models that are nothing but busy or idle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farthing.server.backend.residents import Residents


@dataclass
class Fake:
    requests: list[str] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        return not self.requests


class House:
    """Residents with a clock and a loader in one's own hands."""

    def __init__(self, count: int = 2, **settings: Any) -> None:
        self.now, self.begun = 0.0, list[int]()
        told = {"keep_alive": 100.0} | settings
        self.residents: Residents[Fake] = Residents(count, self.begun.append, clock=lambda: self.now, **told)

    def ask(self, number: int, name: str) -> None:
        model = self.residents.seat({"op": "add", "model": number, "id": name})
        if model is not None:
            model.requests.append(name)

    def arrive(self, number: int) -> Fake:
        model = Fake()
        model.requests += [message["id"] for message in self.residents.arrived(number, model)]
        return model

    def states(self) -> list[str]:
        return [place.state for place in self.residents.places]


def test_a_model_is_loaded_when_it_is_first_asked_for_and_gets_what_was_held() -> None:
    house = House()
    house.ask(1, "a")
    house.ask(1, "b")
    assert house.residents.turn() == []
    assert (house.begun, house.states()) == ([1], ["unloaded", "loading"])
    house.ask(1, "c")
    house.residents.turn()
    assert house.begun == [1], "one load is enough"
    assert house.arrive(1).requests == ["a", "b", "c"]


def test_an_idle_model_goes_after_its_time_and_a_busy_one_never() -> None:
    house = House()
    busy, idle = house.arrive(0), house.arrive(1)
    busy.requests.append("a")
    house.now = 99.0
    assert house.residents.turn() == []
    house.now = 101.0
    assert house.residents.turn() == [1]
    assert idle.is_idle
    house.now = 1000.0
    assert house.residents.turn() == []
    busy.requests.clear()
    house.now = 1099.0
    assert house.residents.turn() == [], "its time begins when it has nothing more to do"
    house.now = 1100.0
    assert house.residents.turn() == [0]


def test_one_that_never_goes_by_itself_stays() -> None:
    house = House(1, keep_alive=float("inf"))
    house.arrive(0)
    house.now = 1e9
    assert house.residents.turn() == []


def test_a_model_that_is_told_to_leave_ends_what_it_writes_and_comes_back_for_what_was_asked_meanwhile() -> (
    None
):
    house = House()
    model = house.arrive(0)
    house.ask(0, "a")
    house.residents.leave(0)
    assert house.residents.turn() == []
    house.ask(0, "b")
    assert model.requests == ["a"]
    house.residents.turn()
    assert house.begun == [], "it is still there"
    model.requests.clear()
    assert house.residents.turn() == [0]
    assert house.residents.turn() == []
    assert house.begun == [0]
    assert house.arrive(0).requests == ["b"]
    assert house.residents.turn() == []


def test_leaving_while_it_is_loaded_serves_what_was_held_first() -> None:
    house = House()
    house.ask(0, "a")
    house.residents.turn()
    house.residents.leave(0)
    model = house.arrive(0)
    assert (model.requests, house.residents.turn()) == (["a"], [])
    model.requests.clear()
    assert house.residents.turn() == [0]


def test_leaving_is_nothing_to_a_model_that_is_not_there() -> None:
    house = House()
    house.residents.leave(0)
    house.ask(0, "a")
    house.residents.turn()
    model = house.arrive(0)
    model.requests.clear()
    assert house.residents.turn() == []


def test_a_request_that_was_given_up_loads_nothing() -> None:
    house = House()
    house.ask(0, "a")
    assert house.residents.forget(0, "a")
    assert not house.residents.forget(0, "a")
    house.residents.turn()
    assert house.begun == []


def test_what_is_said_about_a_held_request_is_held_behind_it() -> None:
    house = House()
    house.ask(0, "a")
    close = {"op": "close_thought", "model": 0, "id": "a"}
    assert house.residents.follow(close)
    assert not house.residents.follow(close | {"id": "b"})
    assert [message["op"] for message in house.residents.arrived(0, Fake())] == ["add", "close_thought"]
    assert not house.residents.follow(close)


def test_a_load_that_fails_gives_back_what_was_held_and_may_be_tried_again() -> None:
    house = House()
    house.ask(0, "a")
    house.residents.turn()
    assert [message["id"] for message in house.residents.failed(0)] == ["a"]
    house.residents.turn()
    assert (house.begun, house.states()) == ([0], ["unloaded", "unloaded"])
    house.ask(0, "b")
    house.residents.turn()
    assert house.begun == [0, 0]


def test_models_that_do_not_fit_together_take_turns() -> None:
    house = House(in_turns=True)
    first = house.arrive(0)
    house.ask(0, "a")
    house.ask(1, "x")
    assert house.residents.turn() == []
    house.ask(0, "b")
    assert first.requests == ["a"], "what comes after another's request waits behind it"
    first.requests.clear()
    assert house.residents.turn() == [0]
    assert house.begun == [1]
    second = house.arrive(1)
    house.ask(1, "y")
    assert second.requests == ["x", "y"]
    house.residents.turn()
    house.ask(1, "z")
    second.requests.clear()
    assert house.residents.turn() == [1]
    assert house.begun == [1, 0]
    assert house.arrive(0).requests == ["b"]


@given(
    st.lists(st.tuples(st.sampled_from(["ask", "end", "leave", "wait", "forget"]), st.integers(0, 2)), max_size=40),
    st.booleans(),
)  # fmt: skip
def test_whatever_happens_every_request_is_served_and_none_is_cut(
    acts: list[tuple[str, int]], in_turns: bool
) -> None:
    house, models = House(3, in_turns=in_turns), dict[int, Fake]()
    asked, served = set[str](), set[str]()

    def settle() -> None:
        for number in house.residents.turn():
            assert models.pop(number).is_idle
        for number in [n for n, place in enumerate(house.residents.places) if place.loading]:
            models[number] = house.arrive(number)
        assert not in_turns or len(models) <= 1

    def end(number: int) -> None:
        if number in models:
            served.update(models[number].requests)
            models[number].requests.clear()

    for count, (act, number) in enumerate(acts):
        if act == "ask":
            asked.add(str(count))
            house.ask(number, str(count))
        elif act == "end":
            end(number)
        elif act == "leave":
            house.residents.leave(number)
        elif act == "forget":
            held = house.residents.places[number].held
            if held:
                asked.discard(held[0]["id"])
                assert house.residents.forget(number, held[0]["id"])
        else:
            house.now += 60.0
        settle()
    for _ in range(3 * len(acts) + 3):
        for number in range(3):
            end(number)
        settle()
    assert served == asked
