"""Which problems of a split that comes round again are passed over for now: those that had nothing to teach.

Plain Python, no clock, no chance: a function of what was visited when and whether it taught.
"""

from __future__ import annotations

from collections.abc import Mapping

LONGEST = 3
"""Fruitless visits in a row after which the rest no longer doubles: 1, 3, 7 passes sat out."""


class Rests:
    """Problems at rest, by key: (fruitless visits in a row, pass of the split from which it is due again).

    A problem that all samples or none of them solved gives no advantage, and most likely will not the next time; but
    the policy moves, so it is asked again, ever more rarely while nothing changes. One that teaches is due every pass.
    """

    def __init__(self) -> None:
        self.resting: dict[str, tuple[int, int]] = {}

    def is_due(self, key: str, at: int) -> bool:
        """Whether the problem is to be visited in pass `at`, from 0."""
        return key not in self.resting or at >= self.resting[key][1]

    def visited(self, key: str, at: int, taught: bool) -> None:
        """Note the outcome of a visit in pass `at`."""
        if taught:
            self.resting.pop(key, None)
            return
        fruitless = min(self.resting.get(key, (0, 0))[0] + 1, LONGEST)
        self.resting[key] = fruitless, at + 2**fruitless

    def state(self) -> dict[str, list[int]]:
        """As JSON."""
        return {key: list(rest) for key, rest in self.resting.items()}

    def load_state(self, state: Mapping[str, list[int]]) -> None:
        """Put back what `state` gave."""
        self.resting = {key: (fruitless, due) for key, (fruitless, due) in state.items()}
