"""Counted randomness: the n-th draw is a function of a key and n, so a problem depends on nothing but its
name.

Python's `random` may change its algorithms between versions; these draws are sha256 of the key and a
counter, and stay the same everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
_WORDS_PER_HASH = 4


class Draws:
    """A stream of independent uniform draws named by `key` (its parts are joined by '/')."""

    __slots__ = ("_counter", "_key", "_words")

    def __init__(self, *key: object) -> None:
        self._key = "/".join(map(str, key)).encode()
        self._counter = 0
        self._words: list[int] = []

    def _word(self) -> int:
        if not self._words:
            digest = hashlib.sha256(b"%s#%d" % (self._key, self._counter)).digest()
            self._counter += 1
            self._words = [int.from_bytes(digest[8 * i : 8 * i + 8], "big") for i in range(_WORDS_PER_HASH)]
        return self._words.pop()

    def below(self, n: int) -> int:
        """An integer in 0..n-1, without bias."""
        if not 0 < n <= 2**64:
            raise ValueError(f"below() needs 1 <= n <= 2**64, got {n}")
        limit = 2**64 - 2**64 % n
        while True:
            word = self._word()
            if word < limit:
                return word % n

    def between(self, low: int, high: int) -> int:
        """An integer in low..high, both included."""
        return low + self.below(high - low + 1)

    def uniform(self) -> float:
        """A float in [0, 1) with 53 random bits."""
        return (self._word() >> 11) * 2.0**-53

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`."""
        return options[self.below(len(options))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """A new list with the same items in random order (Fisher-Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result


def interleaved(key: Sequence[object], weights: Mapping[str, int], index: int) -> tuple[str, int]:
    """Which of several endless streams the item at `index` is taken from, and its index there.

    Every run of sum(weights) items holds each stream as often as its weight says, in an order drawn from
    `key`: nothing of a stream is skipped or taken twice, and nothing depends on the order of the table.
    """
    run, place = divmod(index, sum(weights.values()))
    names = [name for name in sorted(weights) for _ in range(weights[name])]
    order = Draws(*key, run).shuffled(names)
    name = order[place]
    return name, run * weights[name] + order[:place].count(name)
