"""Which models are in memory: loaded when somebody asks for one, unloaded when nobody has for long. No tensors here.

    a request ─▶ its model is in memory: to its engine · it is not: held ─▶ loaded ─▶ to its engine
    idle for `keep_alive` seconds, or told to leave ─▶ what it is writing ends ─▶ unloaded

Nothing in flight is ever cut: a model that is to leave takes nothing new and goes when it has nothing to do; what is
asked of it meanwhile is held, and loads it again. Where not all models fit into memory (`in_turns`), a request for one
that is not there tells the others to leave, so that every model gets its turn, in the order of asking.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from farthing.server.backend.wire import Message

State = Literal["unloaded", "loading", "ready"]


class Busy(Protocol):
    """A model in memory, as far as this file cares."""

    @property
    def is_idle(self) -> bool: ...


Model = TypeVar("Model", bound=Busy)


@dataclass
class Place(Generic[Model]):
    """One of the models that are served. `held`: requests that wait until it is in memory; `used`: when it last had
    something to do."""

    model: Model | None = None
    loading: bool = False
    leaving: bool = False
    used: float = 0.0
    held: list[Message] = field(default_factory=list)

    @property
    def state(self) -> State:
        return "loading" if self.loading else "unloaded" if self.model is None else "ready"


class Residents(Generic[Model]):
    """`count` models, none in memory. `load`: begin to load one; its end is told by `arrived` or `failed`."""

    def __init__(
        self,
        count: int,
        load: Callable[[int], None],
        *,
        keep_alive: float,
        in_turns: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places: list[Place[Model]] = [Place() for _ in range(count)]
        self._load, self._keep_alive, self._in_turns, self._clock = load, keep_alive, in_turns, clock
        self._asked: list[int] = []

    def present(self) -> list[tuple[int, Model]]:
        """Those in memory, with their numbers."""
        return [(number, place.model) for number, place in enumerate(self.places) if place.model is not None]

    def seat(self, message: Message) -> Model | None:
        """Where a new request belongs; None: it is held until its model is there."""
        number = message["model"]
        place = self.places[number]
        if place.model is not None and not place.leaving:
            return place.model
        place.held.append(message)
        if number not in self._asked:
            self._asked.append(number)
        return None

    def follow(self, message: Message) -> bool:
        """Put what is said about a request behind it where it is held; false where it is not."""
        held = self.places[message["model"]].held
        behind = any(one["id"] == message["id"] for one in held)
        if behind:
            held.append(message)
        return behind

    def forget(self, number: int, name: str) -> bool:
        """Drop a request that is held; false where none of that name is."""
        place = self.places[number]
        before = len(place.held)
        place.held = [message for message in place.held if message["id"] != name]
        return len(place.held) < before

    def leave(self, number: int) -> None:
        """It is to go as soon as it has nothing to do."""
        place = self.places[number]
        place.leaving = place.model is not None or place.loading

    def arrived(self, number: int, model: Model) -> list[Message]:
        """It is in memory; what was held for it."""
        place = self.places[number]
        place.model, place.loading, place.used = model, False, self._clock()
        return self._taken(number)

    def failed(self, number: int) -> list[Message]:
        """It could not be loaded; what was held for it."""
        self.places[number].loading = self.places[number].leaving = False
        return self._taken(number)

    def _taken(self, number: int) -> list[Message]:
        place = self.places[number]
        held, place.held = place.held, []
        self._asked = [asked for asked in self._asked if asked != number]
        return held

    def turn(self) -> list[int]:
        """Begin to load what is wanted; returns those that have just been given up: their memory is to be freed."""
        now = self._clock()
        self._asked = [number for number in self._asked if self.places[number].held]
        wanted = [number for number in self._asked if self.places[number].state != "ready"]
        for _, place in self._ready():
            if not _idle(place):
                place.used = now
            place.leaving = place.leaving or (self._in_turns and bool(wanted))
        gone = [
            number
            for number, place in self._ready()
            if _idle(place) and (place.leaving or now - place.used >= self._keep_alive)
        ]
        for number in gone:
            self.places[number].model, self.places[number].leaving = None, False
        occupied = any(place.loading for place in self.places) or (self._in_turns and bool(self._ready()))
        if wanted and not occupied:
            self.places[wanted[0]].loading = True
            self._load(wanted[0])
        return gone

    def _ready(self) -> list[tuple[int, Place[Model]]]:
        return [(number, place) for number, place in enumerate(self.places) if place.model is not None]


def _idle(place: Place[Model]) -> bool:
    return place.model is not None and place.model.is_idle
