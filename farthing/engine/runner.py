"""From a plan to tokens: owns the slots, runs the decoder, draws, and keeps what was drawn per row.

Rows [0, num_decoding) of the slots decode; behind them stand prompts still in prefill and cold sequences. Everything a
decode step needs lies in numpy columns over the slots, so no Python work grows with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from itertools import groupby

import numpy as np
import torch

from farthing.engine.asked import ask, score_prompt, tell
from farthing.engine.sampler import Drawn, Filters, sample, uniforms
from farthing.engine.scheduler import Chunk, Sequence
from farthing.engine.slots import ROW_QUANTUM, DecodeAttend, PrefillAttend, Slots, ordering, padded_rows
from farthing.models.attention import cached_shapes
from farthing.models.decoder import Decoder
from farthing.models.step import Alike

NO_TOKEN = -1


class Columns:
    """One entry per slot: what decoding needs to know of a sequence."""

    def __init__(self, num_slots: int, capacity: int, num_stops: int) -> None:
        self.length = np.zeros(num_slots, np.int64)
        self.last = np.zeros(num_slots, np.int64)
        self.count = np.zeros(num_slots, np.int64)
        self.limit = np.zeros(num_slots, np.int64)
        self.room = np.zeros(num_slots, np.int64)
        self.seed = np.zeros(num_slots, np.uint64)
        self.temperature = np.ones(num_slots)
        self.top_k = np.zeros(num_slots, np.int64)
        self.top_p = np.ones(num_slots)
        self.asks = np.zeros(num_slots, bool)
        self.group = np.zeros(num_slots, np.int64)
        self.shared = np.zeros(num_slots, np.int64)
        self.stops = np.full((num_slots, num_stops), NO_TOKEN, np.int64)
        self.tokens = np.zeros((num_slots, capacity), np.int64)
        self.logprobs = np.zeros((num_slots, capacity), np.float32)
        self.sampling_logprobs = np.zeros((num_slots, capacity), np.float32)

    def grown(self, num_slots: int, capacity: int, num_stops: int) -> Columns:
        """The same contents with room for more slots, more new tokens and more stop tokens."""
        old_slots, old_capacity = self.tokens.shape
        bigger = Columns(
            max(num_slots, old_slots), max(capacity, old_capacity), max(num_stops, self.stops.shape[1])
        )
        for name, column in vars(self).items():
            target = getattr(bigger, name)
            target[tuple(slice(0, size) for size in column.shape)] = column
        return bigger

    def permute(self, sources: list[int], targets: list[int]) -> None:
        for column in vars(self).values():
            column[targets] = column[sources]


class Runner:
    def __init__(self, model: Decoder, cache_dtype: torch.dtype | None = None) -> None:
        self.model = model
        dtype = cache_dtype or model.compute_dtype or model.head_weight.dtype
        self.slots = Slots(cached_shapes(model.config), model.config.num_hidden_layers, dtype)
        self.columns = Columns(0, 0, 1)
        self.seated: list[Sequence | None] = []
        self.slot_of: dict[Sequence, int] = {}
        self.num_decoding = 0
        self._groups = 0

    def seat(self, sequence: Sequence) -> None:
        """Give a sequence a slot and copy the prefix it shares from its donor."""
        params = sequence.request.params
        slot = self._free_slot()
        self.slots.reserve(padded_rows(len(self.seated)) + ROW_QUANTUM, sequence.num_known + 1)
        self.columns = _fitting(
            self.columns, len(self.seated), params.max_new_tokens, len(params.stop_token_ids)
        )
        self.seated[slot], self.slot_of[sequence] = sequence, slot
        c = self.columns
        c.length[slot], c.count[slot] = sequence.num_computed, 0
        c.limit[slot] = params.max_new_tokens - len(sequence.generated)
        c.seed[slot] = np.uint64(params.seed & 0xFFFFFFFFFFFFFFFF)
        c.temperature[slot], c.top_k[slot], c.top_p[slot] = params.temperature, params.top_k, params.top_p
        c.asks[slot] = sequence.request.constraint is not None or params.top_logprobs > 0
        c.stops[slot] = NO_TOKEN
        c.stops[slot, : len(params.stop_token_ids)] = params.stop_token_ids
        self._group([slot], 0)
        if sequence.donor is not None and sequence.num_computed:
            self.slots.copy_prefix(self.slot_of[sequence.donor], slot, sequence.num_computed)
        sequence.donor = None

    def _group(self, slots: list[int], num_tokens: int) -> None:
        """These slots hold the same first `num_tokens` tokens from now on, as far as whole quanta go."""
        self._groups += 1
        self.columns.group[slots] = self._groups
        self.columns.shared[slots] = num_tokens // ROW_QUANTUM * ROW_QUANTUM

    def _free_slot(self) -> int:
        for slot in range(self.num_decoding, len(self.seated)):
            if self.seated[slot] is None:
                return slot
        self.seated.append(None)
        return len(self.seated) - 1

    def unseat(self, sequence: Sequence, keep_slot: bool = False) -> None:
        """Take a sequence out of decoding with everything it generated; its slot is freed or stays as a cold donor."""
        slot = self.slot_of[sequence]
        count = int(self.columns.count[slot])
        sequence.generated += self.columns.tokens[slot, :count].tolist()
        sequence.logprobs += self.columns.logprobs[slot, :count].tolist()
        sequence.sampling_logprobs += self.columns.sampling_logprobs[slot, :count].tolist()
        self.columns.count[slot] = 0
        if slot < self.num_decoding:
            self.num_decoding -= 1
            self._exchange([slot, self.num_decoding], [self.num_decoding, slot])
        if not keep_slot:
            self.release(sequence)

    def release(self, sequence: Sequence) -> None:
        """Free a slot that is not decoding."""
        self.seated[self.slot_of.pop(sequence)] = None
        if not self.slot_of:
            self.slots.clear()

    def _exchange(self, sources: list[int], targets: list[int]) -> None:
        """Move whole rows at once: storage, columns and who sits where."""
        if sources == targets:
            return
        tokens = int(self.columns.length[sources].max(initial=0))
        self.slots.permute(sources, targets, tokens)
        self.columns.permute(sources, targets)
        moved = [self.seated[source] for source in sources]
        for target, sequence in zip(targets, moved, strict=True):
            self.seated[target] = sequence
            if sequence is not None:
                self.slot_of[sequence] = target

    @torch.no_grad()
    def prefill(self, chunks: list[Chunk]) -> list[int]:
        """Compute chunks of prompts; returns the slots of those that are complete and have drawn their next token."""

        def shape(chunk: Chunk) -> tuple[int, int]:
            return chunk.start, chunk.end

        ready: list[Sequence] = []
        for (start, end), alike in groupby(sorted(chunks, key=shape), key=shape):
            ready += self._prefill_alike(list(alike), start, end)
        for sequence in ready:
            slot = self.slot_of[sequence]
            if slot != self.num_decoding:
                self._exchange([slot, self.num_decoding], [self.num_decoding, slot])
            self.num_decoding += 1
        return [self.slot_of[sequence] for sequence in ready]

    def _prefill_alike(self, chunks: list[Chunk], start: int, end: int) -> list[Sequence]:
        """Chunks of one shape: equal texts are computed once."""
        texts: dict[tuple[int, ...], list[Chunk]] = {}
        for chunk in chunks:
            texts.setdefault(tuple(chunk.sequence.token_ids[:end]), []).append(chunk)
        homes = [[self.slot_of[chunk.sequence] for chunk in same] for same in texts.values()]
        attend = PrefillAttend(self.slots, homes, start, end - start)
        ids = torch.tensor([text[start:] for text in texts], dtype=torch.int64)
        positions = torch.arange(start, end).unsqueeze(0)
        states = self.model.hidden(ids, positions, attend)
        for row, same in enumerate(texts.values()):
            for chunk in same:
                if chunk.sequence.request.params.prompt_logprobs:
                    score_prompt(self.model, states[row], chunk)
        hidden = states[:, -1]
        for slots in homes:
            self.columns.length[slots] = end
            if len(slots) > 1:
                self._group(slots, end)
        rows = [row for row, same in enumerate(texts.values()) for chunk in same if chunk.is_last]
        ready = [chunk.sequence for same in texts.values() for chunk in same if chunk.is_last]
        if ready:
            logits = self.model.logits(_padded(hidden))[: len(hidden)]
            self._draw(logits[rows], np.array([self.slot_of[sequence] for sequence in ready]))
        return ready

    @torch.no_grad()
    def decode(self) -> np.ndarray:
        """One token for every decoding row; returns their slots."""
        num_rows = self.num_decoding
        if not self.slots.are_read_exactly:
            self._exchange(*ordering(self.columns.length[:num_rows] + 1))
        lengths = self.columns.length[:num_rows].copy()
        self._lengthen(int(lengths.max()) + 1)
        hidden = self._states(self.columns.last[:num_rows], lengths, padded_rows(num_rows))
        self.columns.length[:num_rows] += 1
        slots = np.arange(num_rows)
        self._draw(self.model.logits(hidden)[:num_rows], slots)
        return slots

    def _states(self, last: np.ndarray, lengths: np.ndarray, padded: int) -> torch.Tensor:
        """Normalised states [padded, C] behind the tokens `last` at places `lengths` of the first slots."""
        slots = self.slots
        if self.model.step is not None and slots.keys.dtype == torch.bfloat16:
            tokens, positions = torch.from_numpy(last), torch.from_numpy(lengths)
            alike = Alike.of(self.columns.group[: len(last)], self.columns.shared[: len(last)])
            return self.model.step(tokens, positions, alike, slots.keys, slots.values, padded)
        ids, positions = torch.zeros(padded, 1, dtype=torch.int64), torch.zeros(padded, 1, dtype=torch.int64)
        ids[: len(last), 0], positions[: len(last), 0] = torch.from_numpy(last), torch.from_numpy(lengths)
        return self.model.hidden(ids, positions, DecodeAttend(slots, lengths))[:, 0]

    def _lengthen(self, num_tokens: int) -> None:
        """Room for longer sequences: for those that are left alone, which in the end are few and long."""
        if num_tokens <= self.slots.num_tokens:
            return
        taken = 1 + max(self.slot_of.values())
        # Whoever comes next has to ask for room again, so no empty place may be beyond what there is.
        del self.seated[taken:]
        self.slots.reserve(padded_rows(taken) + ROW_QUANTUM, num_tokens, taken)

    def _draw(self, logits: torch.Tensor, slots: np.ndarray) -> None:
        c = self.columns
        asking = [(row, self.seated[slots[row]]) for row in np.flatnonzero(c.asks[slots]).tolist()]
        drawn: Drawn = sample(
            logits,
            Filters(c.temperature[slots], c.top_k[slots], c.top_p[slots]),
            uniforms(c.seed[slots], c.length[slots]),
            ask(logits, asking) if asking else None,
        )
        if asking:
            tell(logits, drawn.token_ids, asking)
        column = c.count[slots]
        c.last[slots] = c.tokens[slots, column] = drawn.token_ids.numpy()
        c.logprobs[slots, column] = drawn.logprobs.numpy()
        c.sampling_logprobs[slots, column] = drawn.sampling_logprobs.numpy()
        c.count[slots] += 1

    def finished(self, slots: Many[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(slots that have ended, whether by a stop token), among rows that have just drawn."""
        slots = np.asarray(slots, dtype=np.int64)
        stopped = (self.columns.last[slots, None] == self.columns.stops[slots]).any(axis=1)
        ended = stopped | (self.columns.count[slots] >= self.columns.limit[slots])
        return slots[ended], stopped[ended]


def _fitting(columns: Columns, num_slots: int, capacity: int, num_stops: int) -> Columns:
    slots, tokens = columns.tokens.shape
    if num_slots <= slots and capacity <= tokens and num_stops <= columns.stops.shape[1]:
        return columns
    return columns.grown(max(num_slots, 2 * slots), capacity, num_stops)


def _padded(hidden: torch.Tensor) -> torch.Tensor:
    """Rows enough for the kernel that treats every row alike."""
    missing = padded_rows(len(hidden)) - len(hidden)
    return hidden if not missing else torch.cat([hidden, hidden.new_zeros(missing, hidden.shape[1])])
