"""From a plan to tokens: owns the slots, runs the decoder, draws, and keeps what was drawn per row.

Rows [0, num_decoding) of the slots decode; behind them stand prompts still in prefill and cold sequences. Everything a
decode step needs lies in numpy columns over the slots, so no Python work grows with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from itertools import groupby

import numpy as np
import torch

from farthing.engine.asked import ask, read_prompt, tell
from farthing.engine.automaton import Automaton
from farthing.engine.columns import NO_TOKEN, Columns
from farthing.engine.rests import Rest, rests_of, rows_with
from farthing.engine.sampler import Drawn, Filters, sample, uniforms
from farthing.engine.scheduler import Chunk, Sequence
from farthing.engine.slots import ROW_QUANTUM, DecodeAttend, PrefillAttend, Slots, ordering, padded_rows
from farthing.models.attention import cached_shapes
from farthing.models.decoder import Decoder
from farthing.models.step import Alike, Rows, Step


class Runner:
    def __init__(
        self, model: Decoder, cache_dtype: torch.dtype | None = None, automaton: Automaton | None = None
    ) -> None:
        self.model, self.automaton = model, automaton
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
        self.columns = self.columns.fitting(
            len(self.seated), params.max_new_tokens, len(params.stop_token_ids)
        )
        self.seated[slot], self.slot_of[sequence] = sequence, slot
        c = self.columns
        c.length[slot], c.count[slot] = sequence.num_computed, 0
        c.limit[slot] = params.max_new_tokens - len(sequence.generated)
        if self.automaton is not None:
            c.state[slot] = self.automaton.after(sequence.request.state, sequence.generated)
        c.seed[slot] = np.uint64(params.seed & 0xFFFFFFFFFFFFFFFF)
        c.temperature[slot], c.top_k[slot], c.top_p[slot] = params.temperature, params.top_k, params.top_p
        c.asks[slot] = sequence.request.constraint is not None or params.top_logprobs > 0
        c.stops[slot] = NO_TOKEN
        c.stops[slot, : len(params.stop_token_ids)] = params.stop_token_ids
        self._group([slot], 0)
        if sequence.donor is not None and sequence.num_computed:
            donor = self.slot_of[sequence.donor]
            self.slots.copy(donor, slot, 0, sequence.num_computed)
            self._join(donor, slot, sequence.num_computed)
        sequence.donor = None

    def _group(self, slots: list[int], num_tokens: int) -> None:
        """These slots hold the same first `num_tokens` tokens from now on, as far as whole quanta go."""
        self._groups += 1
        self.columns.group[slots] = self._groups
        self.columns.shared[slots] = num_tokens // ROW_QUANTUM * ROW_QUANTUM

    def _join(self, donor: int, slot: int, num_tokens: int) -> None:
        """A slot that holds the donor's first `num_tokens` belongs to its group, unless that has more in common."""
        c, whole = self.columns, num_tokens // ROW_QUANTUM * ROW_QUANTUM
        if not c.shared[donor]:  # alone until now
            self._group([donor, slot], num_tokens)
        elif whole >= c.shared[donor]:
            c.group[slot], c.shared[slot] = c.group[donor], c.shared[donor]

    def _free_slot(self) -> int:
        for slot in range(self.num_decoding, len(self.seated)):
            if self.seated[slot] is None:
                return slot
        self.seated.append(None)
        return len(self.seated) - 1

    def unseat(self, sequence: Sequence, keep_slot: bool = False) -> None:
        """Take a sequence out of decoding with everything it generated; its slot is freed or stays what it is, for a
        cold donor."""
        slot = self.slot_of[sequence]
        count = int(self.columns.count[slot])
        sequence.generated += self.columns.tokens[slot, :count].tolist()
        sequence.logprobs += self.columns.logprobs[slot, :count].tolist()
        sequence.sampling_logprobs += self.columns.sampling_logprobs[slot, :count].tolist()
        self.columns.count[slot] = 0
        last = self.num_decoding - 1
        if slot <= last:
            self.num_decoding = last
            self._exchange(slot, last, keep_slot)
        if not keep_slot:
            self.release(sequence)

    def release(self, sequence: Sequence) -> None:
        """Free a slot that is not decoding."""
        self.seated[self.slot_of.pop(sequence)] = None
        if not self.slot_of:
            self.slots.clear()

    def _exchange(self, slot: int, other: int, is_kept: bool) -> None:
        """The sequence in `other` moves to `slot`; whoever is there goes the other way, with keys and values if those
        are kept."""
        if slot == other:
            return
        lengths = self.columns.length
        if is_kept:
            self.slots.exchange(slot, other, int(max(lengths[slot], lengths[other])))
        else:
            self.slots.copy(other, slot, 0, int(lengths[other]))
        self.columns.permute([slot, other], [other, slot])
        self._sit({other: self.seated[slot], slot: self.seated[other]})

    def _reorder(self, sources: list[int], targets: list[int]) -> None:
        """Move whole rows at once: storage, columns and who sits where."""
        if sources == targets:
            return
        tokens = int(self.columns.length[sources].max(initial=0))
        self.slots.permute(sources, targets, tokens)
        self.columns.permute(sources, targets)
        self._sit({target: self.seated[source] for source, target in zip(sources, targets, strict=True)})

    def _sit(self, places: dict[int, Sequence | None]) -> None:
        for slot, sequence in places.items():
            self.seated[slot] = sequence
            if sequence is not None:
                self.slot_of[sequence] = slot

    @torch.no_grad()
    def prefill(self, chunks: list[Chunk]) -> list[int]:
        """Compute chunks of prompts; returns the slots of those that are complete and have drawn their next token."""

        def shape(chunk: Chunk) -> tuple[int, int, int]:
            # What becomes a vector is computed by itself: its numbers may not depend on who else is there.
            alone = chunk.sequence.arrival if chunk.sequence.request.params.embed else 0
            return chunk.start, chunk.end, alone

        ready: list[Sequence] = []
        for (start, end, _), alike in groupby(sorted(chunks, key=shape), key=shape):
            ready += self._prefill_alike(list(alike), start, end)
        self._let_decode(ready)
        return [self.slot_of[sequence] for sequence in ready]

    def _let_decode(self, ready: Many[Sequence]) -> None:
        for sequence in ready:
            slot = self.slot_of[sequence]
            self._exchange(self.num_decoding, slot, self.seated[self.num_decoding] is not None)
            self.num_decoding += 1

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
                if chunk.sequence.request.params.reads_prompt:
                    read_prompt(self.model, states[row], chunk)
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

    @property
    def takes_rests(self) -> bool:
        """Whether a decoding step can compute the last tokens of prompts as well."""
        return self._step is not None

    @property
    def _step(self) -> Step | None:
        return self.model.step if self.slots.keys.dtype == torch.bfloat16 else None

    @torch.no_grad()
    def decode(self, rests: Many[Chunk] = ()) -> np.ndarray:
        """One token for every decoding row, and the first for prompts whose `rests` are computed beside them and which
        decode from now on; returns the slots of all."""
        c, slots, rows = self.columns, np.arange(self.num_decoding), slice(self.num_decoding)
        if not self.slots.are_read_exactly:
            self._reorder(*ordering(c.length[rows] + 1))
        self._lengthen(int(c.length[rows].max(initial=0)) + 1)
        step = self._step
        if step is not None and rests:
            return self._decode_with(step, rests_of(rests, self.slot_of))
        if step is not None and not c.asks[rows].any() and self._filters(rows).is_plain:
            tokens, logprobs = step.draw(self._rows(), uniforms(c.seed[rows], c.length[rows] + 1))
            c.length[rows] += 1
            self._note(Drawn.from_model(tokens, logprobs), slots)
            return slots
        logits = self._logits() if step is None else step.logits(self._rows())
        c.length[rows] += 1
        self._draw(logits, slots)
        return slots

    def _rows(self) -> Rows:
        """What decodes, as the compiled step reads it."""
        c, n = self.columns, self.num_decoding
        alike = Alike.of(c.group[:n], c.shared[:n])
        return Rows(c.last[:n], c.length[:n], np.arange(n), n, alike, self.slots.keys, self.slots.values)

    def _decode_with(self, step: Step, rests: list[Rest]) -> np.ndarray:
        num_decoding, ready = self.num_decoding, [one for rest in rests for one in rest.sequences]
        logits = step.logits(rows_with(self.columns, num_decoding, rests, self.slots))
        self.columns.length[:num_decoding] += 1
        for rest in rests:
            self._settle(rest)
        drawing = [*range(num_decoding)]
        for row, rest in enumerate(rests, num_decoding):
            drawing += [row] * len(rest.homes)
        homes = [slot for rest in rests for slot in rest.homes]
        self._draw(logits[drawing], np.array([*range(num_decoding), *homes]))
        self._let_decode(ready)
        return np.arange(self.num_decoding)

    def _settle(self, rest: Rest) -> None:
        """What was computed in one place belongs to everybody who spells the same text."""
        first, *others = rest.homes
        for slot in others:
            self.slots.copy(first, slot, rest.start, rest.end)
        self.columns.length[rest.homes] = rest.end
        if others:
            self._group(rest.homes, rest.end)

    def _logits(self) -> torch.Tensor:
        """The same by plain operations: float32 or wider [rows, V]."""
        num_rows = self.num_decoding
        lengths = self.columns.length[:num_rows].copy()
        ids, positions = np.zeros((2, padded_rows(num_rows), 1), np.int64)
        ids[:num_rows, 0], positions[:num_rows, 0] = self.columns.last[:num_rows], lengths
        attend = DecodeAttend(self.slots, lengths)
        hidden = self.model.hidden(torch.from_numpy(ids), torch.from_numpy(positions), attend)
        return self.model.logits(hidden[:, 0])[:num_rows]

    def _lengthen(self, num_tokens: int) -> None:
        """Room for longer sequences: for those that are left alone, which in the end are few and long."""
        if num_tokens <= self.slots.num_tokens:
            return
        taken = 1 + max(self.slot_of.values())
        # Whoever comes next has to ask for room again, so no empty place may be beyond what there is.
        del self.seated[taken:]
        self.slots.reserve(padded_rows(taken) + ROW_QUANTUM, num_tokens, taken)

    def _filters(self, slots: np.ndarray | slice) -> Filters:
        c = self.columns
        return Filters(c.temperature[slots], c.top_k[slots], c.top_p[slots])

    def _draw(self, logits: torch.Tensor, slots: np.ndarray) -> None:
        c = self.columns
        asking = [(row, self.seated[slots[row]]) for row in np.flatnonzero(c.asks[slots]).tolist()]
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
