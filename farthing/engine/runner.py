"""From a plan to tokens: runs the decoder for those who sit in the slots, draws, and keeps what was drawn per row.

Everything a decode step needs lies in numpy columns over the slots, so no Python work grows with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from itertools import groupby

import numpy as np
import torch

from farthing.engine.asked import ask, read_prompt, tell
from farthing.engine.automaton import Automaton
from farthing.engine.columns import Columns
from farthing.engine.rests import Rest, rests_of, rows_with
from farthing.engine.sampler import Drawn, Filters, sample, uniforms
from farthing.engine.seats import Seats
from farthing.engine.sequence import Chunk, Sequence
from farthing.engine.slots import DecodeAttend, PrefillAttend, Slots, ordering, padded_rows
from farthing.models.attention import cached_shapes
from farthing.models.decoder import Decoder
from farthing.models.step import Alike, Rows, Step


class Runner:
    def __init__(
        self, model: Decoder, cache_dtype: torch.dtype | None = None, automaton: Automaton | None = None
    ) -> None:
        self.model = model
        dtype = cache_dtype or model.compute_dtype or model.head_weight.dtype
        slots = Slots(cached_shapes(model.config), model.config.num_hidden_layers, dtype)
        self.seats = Seats(slots, automaton)

    @property
    def slots(self) -> Slots:
        return self.seats.slots

    @property
    def columns(self) -> Columns:
        return self.seats.columns

    @property
    def takes_rests(self) -> bool:
        """Whether a decoding step can compute the last tokens of prompts as well."""
        return self._step is not None

    @property
    def _step(self) -> Step | None:
        return self.model.step if self.slots.keys.dtype == torch.bfloat16 else None

    def prefill(self, chunks: list[Chunk]) -> list[int]:
        """Compute chunks of prompts; returns the slots of those that are complete and have drawn their next token."""

        def shape(chunk: Chunk) -> tuple[int, int, int]:
            # What becomes a vector is computed by itself: its numbers may not depend on who else is there.
            alone = chunk.sequence.arrival if chunk.sequence.request.params.embed else 0
            return chunk.start, chunk.end, alone

        ready: list[Sequence] = []
        for (start, end, _), alike in groupby(sorted(chunks, key=shape), key=shape):
            ready += self._prefill_alike(list(alike), start, end)
        self.seats.let_decode(ready)
        return [self.seats.slot_of[sequence] for sequence in ready]

    def _prefill_alike(self, chunks: list[Chunk], start: int, end: int) -> list[Sequence]:
        """Chunks of one shape: equal texts are computed once."""
        texts: dict[tuple[int, ...], list[Chunk]] = {}
        for chunk in chunks:
            texts.setdefault(tuple(chunk.sequence.token_ids[:end]), []).append(chunk)
        homes = [[self.seats.slot_of[chunk.sequence] for chunk in same] for same in texts.values()]
        places = [home[0] for home in homes]
        self.seats.own(places)
        attend = PrefillAttend(self.slots, places, start, end - start)
        ids = torch.tensor([text[start:] for text in texts], dtype=torch.int64)
        positions = torch.arange(start, end).unsqueeze(0)
        states = self.model.hidden(ids, positions, attend)
        for row, same in enumerate(texts.values()):
            for chunk in same:
                if chunk.sequence.request.params.reads_prompt:
                    read_prompt(self.model, states[row], chunk)
        hidden = states[:, -1]
        for home in homes:
            self.seats.spread(home, end)
        rows = [row for row, same in enumerate(texts.values()) for chunk in same if chunk.is_last]
        ready = [chunk.sequence for same in texts.values() for chunk in same if chunk.is_last]
        if ready:
            logits = self.model.logits(_padded(hidden))[: len(hidden)]
            self._draw(logits[rows], np.array([self.seats.slot_of[sequence] for sequence in ready]))
        return ready

    def decode(self, rests: Many[Chunk] = ()) -> np.ndarray:
        """One token for every decoding row, and the first for prompts whose `rests` are computed beside them and which
        decode from now on; returns the slots of all."""
        c, slots, rows = self.columns, np.arange(self.seats.num_decoding), slice(self.seats.num_decoding)
        step = self._step
        if step is None:
            self.seats.own(slots)
        if not self.slots.are_read_exactly:
            self.seats.reorder(*ordering(c.length[rows] + 1))
        self.seats.lengthen(int(c.length[rows].max(initial=0)) + 1)
        if step is not None and rests:
            return self._decode_with(step, rests_of(rests, self.seats.slot_of))
        if step is not None and not c.asks[rows].any() and self._filters(rows).is_plain:
            tokens, logprobs = step.draw(self._rows(), uniforms(c.seed[rows], c.length[rows] + 1))
            c.length[rows] += 1
            self._note(Drawn.from_model(tokens, logprobs), slots)
            return slots
        logits = self._logits() if step is None else step.logits(self._rows())
        c.length[rows] += 1
        self._draw(logits, slots)
        return slots

    def _decode_with(self, step: Step, rests: list[Rest]) -> np.ndarray:
        """The same with rests; their rows stand behind those that decode, one for each text."""
        num_decoding, ready = self.seats.num_decoding, [one for rest in rests for one in rest.sequences]
        logits = step.logits(rows_with(self.columns, num_decoding, rests, self.slots))
        self.columns.length[:num_decoding] += 1
        for rest in rests:
            self.seats.spread(rest.homes, rest.end)
        drawing = [*range(num_decoding)]
        for row, rest in enumerate(rests, num_decoding):
            drawing += [row] * len(rest.homes)
        homes = [slot for rest in rests for slot in rest.homes]
        self._draw(logits[drawing], np.array([*range(num_decoding), *homes]))
        self.seats.let_decode(ready)
        return np.arange(self.seats.num_decoding)

    def _rows(self) -> Rows:
        """What decodes, as the compiled step reads it."""
        c, n = self.columns, self.seats.num_decoding
        alike = Alike.of(c.holder[:n], c.shared[:n])
        return Rows(c.last[:n], c.length[:n], np.arange(n), n, alike, self.slots.keys, self.slots.values)

    def _logits(self) -> torch.Tensor:
        """The logits of what decodes by plain operations: float32 or wider [rows, V]."""
        num_rows = self.seats.num_decoding
        lengths = self.columns.length[:num_rows].copy()
        ids, positions = np.zeros((2, padded_rows(num_rows), 1), np.int64)
        ids[:num_rows, 0], positions[:num_rows, 0] = self.columns.last[:num_rows], lengths
        attend = DecodeAttend(self.slots, lengths)
        hidden = self.model.hidden(torch.from_numpy(ids), torch.from_numpy(positions), attend)
        return self.model.logits(hidden[:, 0])[:num_rows]

    def _filters(self, slots: np.ndarray | slice) -> Filters:
        c = self.columns
        return Filters(c.temperature[slots], c.top_k[slots], c.top_p[slots])

    def _draw(self, logits: torch.Tensor, slots: np.ndarray) -> None:
        c = self.columns
        asking = [(row, self.seats.seated[slots[row]]) for row in np.flatnonzero(c.asks[slots]).tolist()]
        drawn: Drawn = sample(
            logits,
            self._filters(slots),
            uniforms(c.seed[slots], c.length[slots]),
            ask(logits, asking) if asking else None,
        )
        if asking:
            tell(logits, drawn.token_ids, asking)
        self._note(drawn, slots)

    def _note(self, drawn: Drawn, slots: np.ndarray) -> None:
        c, column = self.columns, self.columns.count[slots]
        c.last[slots] = c.tokens[slots, column] = drawn.token_ids.numpy()
        c.logprobs[slots, column] = drawn.logprobs.numpy()
        c.sampling_logprobs[slots, column] = drawn.sampling_logprobs.numpy()
        c.count[slots] += 1


def _padded(hidden: torch.Tensor) -> torch.Tensor:
    """Rows enough for the kernel that treats every row alike."""
    missing = padded_rows(len(hidden)) - len(hidden)
    return hidden if not missing else torch.cat([hidden, hidden.new_zeros(missing, hidden.shape[1])])
