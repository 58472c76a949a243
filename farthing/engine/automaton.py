"""Completions that may be ended before they end themselves: a finite automaton over classes of tokens.

It knows no text: whoever builds it says what tokens mean. For a whole batch a step is two gathers, and a third says
which rows go on; no Python work grows with the batch. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

NEVER = 1 << 40
"""More tokens than any completion has."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """`classes_V`: the class of each token, int64 [V]. `moves_SC`: the state that follows, int64 [states, classes].
    `needs_S`, int64 [states]: a completion ends where fewer tokens than this may still come; 1 is no more than that one
    may come, NEVER ends it at once. State 0 is left by no token and needs 1: there, anything goes."""

    classes_V: np.ndarray
    moves_SC: np.ndarray
    needs_S: np.ndarray

    def __post_init__(self) -> None:
        assert not self.moves_SC[0].any() and self.needs_S[0] == 1

    @property
    def num_states(self) -> int:
        return len(self.needs_S)

    def step(self, states: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
        """The states, int64 [rows], that rows reach with a token each."""
        reached: np.ndarray = self.moves_SC[states, self.classes_V[token_ids]]
        return reached

    def after(self, state: int, token_ids: Iterable[int]) -> int:
        """The state that one completion reaches from `state` with all its tokens."""
        for token_id in token_ids if state else ():
            state = int(self.moves_SC[state, self.classes_V[token_id]])
        return state
