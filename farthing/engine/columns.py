"""What decoding needs to know of every sequence, as columns over the slots: no Python work grows with the batch."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np

from farthing.engine.api import FinishReason
from farthing.engine.automaton import NEVER, Automaton

NO_TOKEN = -1


class Columns:
    """One entry per slot: what decoding needs to know of a sequence. `holder`: the slot in which its first `shared`
    tokens are, a multiple of 16; its own, and 0, where it has them all itself."""

    def __init__(self, num_slots: int, capacity: int, num_stops: int) -> None:
        self.length = np.zeros(num_slots, np.int64)
        self.last = np.zeros(num_slots, np.int64)
        self.count = np.zeros(num_slots, np.int64)
        self.limit = np.zeros(num_slots, np.int64)
        self.state = np.zeros(num_slots, np.int64)
        self.room = np.zeros(num_slots, np.int64)
        self.seed = np.zeros(num_slots, np.uint64)
        self.temperature = np.ones(num_slots)
        self.top_k = np.zeros(num_slots, np.int64)
        self.top_p = np.ones(num_slots)
        self.asks = np.zeros(num_slots, bool)
        self.holder = np.arange(num_slots)
        self.shared = np.zeros(num_slots, np.int64)
        self.stops = np.full((num_slots, num_stops), NO_TOKEN, np.int64)
        self.tokens = np.zeros((num_slots, capacity), np.int64)
        self.logprobs = np.zeros((num_slots, capacity), np.float32)
        self.sampling_logprobs = np.zeros((num_slots, capacity), np.float32)

    def fitting(self, num_slots: int, capacity: int, num_stops: int) -> Columns:
        """These columns where they have room for as many slots, new tokens and stop tokens, else larger ones."""
        slots, tokens = self.tokens.shape
        if num_slots <= slots and capacity <= tokens and num_stops <= self.stops.shape[1]:
            return self
        return self._grown(max(num_slots, 2 * slots) if num_slots > slots else slots, capacity, num_stops)

    def _grown(self, num_slots: int, capacity: int, num_stops: int) -> Columns:
        old_slots, old_capacity = self.tokens.shape
        bigger = Columns(
            max(num_slots, old_slots), max(capacity, old_capacity), max(num_stops, self.stops.shape[1])
        )
        for name, column in vars(self).items():
            target = getattr(bigger, name)
            target[tuple(slice(0, size) for size in column.shape)] = column
        return bigger

    def permute(self, sources: list[int], targets: list[int]) -> None:
        """Slot targets[i] takes over what slot sources[i] says."""
        for column in vars(self).values():
            column[targets] = column[sources]
        place_of = np.arange(len(self.holder))
        place_of[sources] = targets
        self.holder = place_of[self.holder]

    def ended(
        self, slots: Many[int] | np.ndarray, automaton: Automaton | None
    ) -> tuple[np.ndarray, list[FinishReason]]:
        """(slots that have ended, why), among rows that have just drawn. To be asked once for each token."""
        slots = np.asarray(slots, dtype=np.int64)
        stopped = (self.last[slots, None] == self.stops[slots]).any(axis=1)
        left, needs = self.limit[slots] - self.count[slots], np.ones(len(slots), np.int64)
        if automaton is not None:
            self.state[slots] = automaton.step(self.state[slots], self.last[slots])
            needs = automaton.needs_S[self.state[slots]]
        ended = np.flatnonzero(stopped | (left < needs))
        reasons: list[FinishReason] = [
            "stop" if stopped[row] else "broken" if left[row] and needs[row] == NEVER else "length"
            for row in ended.tolist()
        ]
        return slots[ended], reasons
