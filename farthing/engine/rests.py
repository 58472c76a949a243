"""The last tokens of prompts in a decoding step: each is a row, and the last of each prompt draws."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np

from farthing.engine.columns import Columns
from farthing.engine.sequence import Chunk, Sequence
from farthing.engine.slots import Slots
from farthing.models.step import Alike, Rows


@dataclass(frozen=True)
class Rest:
    """Tokens from `start` on of sequences that spell the same text: computed in the first of `homes`, their slots, for
    all of them."""

    tokens: list[int]
    start: int
    homes: list[int]
    sequences: list[Sequence]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


def rests_of(chunks: Many[Chunk], slot_of: Mapping[Sequence, int]) -> list[Rest]:
    """Equal texts of which the same is left are one rest."""
    alike: dict[tuple[int, tuple[int, ...]], list[Sequence]] = {}
    for chunk in chunks:
        alike.setdefault((chunk.start, tuple(chunk.sequence.token_ids)), []).append(chunk.sequence)
    return [
        Rest(list(text[start:]), start, [slot_of[sequence] for sequence in same], same)
        for (start, text), same in alike.items()
    ]


def rows_with(columns: Columns, num_decoding: int, rests: Many[Rest], slots: Slots) -> Rows:
    """The decoding rows, behind them the last token of every rest, behind those the tokens before."""
    c, n = columns, num_decoding
    earlier = [(rest, index) for rest in rests for index in range(len(rest.tokens) - 1)]
    added = [(rest, len(rest.tokens) - 1) for rest in rests] + earlier
    tokens = np.array([rest.tokens[index] for rest, index in added], np.int64)
    lengths = np.array([rest.start + index for rest, index in added], np.int64)
    places = np.concatenate([np.arange(n), np.array([rest.homes[0] for rest, _ in added], np.int64)])
    return Rows(
        np.concatenate([c.last[:n], tokens]),
        np.concatenate([c.length[:n], lengths]),
        places,
        n + len(rests),
        Alike.of(c.holder[places], c.shared[places]),
        slots.keys,
        slots.values,
    )
