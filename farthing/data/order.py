"""In which order the rows of files are learnt from: the row at any index is a function of (seed, index). Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from farthing.tasks.draws import Draws, interleaved


class Order:
    """Pools of rows, `sizes` each, shuffled anew every time they begin again.

    Of every sum(weights) rows in a row each pool has as many as its weight. `epoch`: rows until the first of the pools
    begins again; of one pool, all of its rows.
    """

    def __init__(self, sizes: Mapping[str, int], weights: Mapping[str, int], seed: int) -> None:
        assert set(sizes) == set(weights) and min(sizes.values()) > 0
        self.sizes, self.weights, self.seed = dict(sizes), dict(weights), seed
        rounds = min(size / weights[name] for name, size in sizes.items())
        self.epoch = max(1, int(rounds * sum(weights.values())))
        self._shuffled = lru_cache(maxsize=2 * len(sizes))(self._new_order)

    def at(self, index: int) -> tuple[str, int]:
        """(pool, row of it) at place `index` of the endless order."""
        name, own = interleaved(("rows", self.seed), self.weights, index)
        epoch, place = divmod(own, self.sizes[name])
        return name, self._shuffled(name, epoch)[place]

    def _new_order(self, name: str, epoch: int) -> list[int]:
        return Draws("rows", self.seed, name, epoch).shuffled(range(self.sizes[name]))
