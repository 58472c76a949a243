"""Who sits in which slot: sequences take places, share what they have in common, move and leave.

Rows [0, num_decoding) decode; behind them stand prompts still in prefill and cold sequences.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence as Many

import numpy as np

from farthing.engine.automaton import Automaton
from farthing.engine.columns import NO_TOKEN, Columns
from farthing.engine.sequence import Sequence
from farthing.engine.slots import ROW_QUANTUM, Slots, padded_rows


class Seats:
    """`slots`: keys and values; `columns`: what else decoding needs of each; `seated` and `slot_of`: who is where."""

    def __init__(self, slots: Slots, automaton: Automaton | None = None) -> None:
        self.slots, self.automaton = slots, automaton
        self.columns = Columns(0, 0, 1)
        self.seated: list[Sequence | None] = []
        self.slot_of: dict[Sequence, int] = {}
        self.num_decoding = 0
        self._groups = 0

    def expect(self, count: int, num_tokens: int) -> None:
        """So many sequences come and get no longer than `num_tokens`: room for them at once, if the system grants it,
        so that it need not grow. Plain products want no room to spare."""
        if self.slots.are_read_exactly:
            with contextlib.suppress(OSError):
                self._reserve(count, num_tokens)

    def _reserve(self, count: int, num_tokens: int) -> None:
        """Room for `count` sequences and the padding of a batch."""
        held = [
            int(length) if sequence else 0
            for sequence, length in zip(self.seated, self.columns.length, strict=False)
        ]
        self.slots.reserve(padded_rows(count) + ROW_QUANTUM, num_tokens, held)

    def seat(self, sequence: Sequence) -> None:
        """Give a sequence a slot and copy the prefix it shares from its donor."""
        params = sequence.request.params
        slot = self._free_slot()
        self._reserve(len(self.seated), sequence.num_known + 1)
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
        self.share([slot], 0)
        if sequence.donor is not None and sequence.num_computed:
            donor = self.slot_of[sequence.donor]
            self.slots.copy(donor, slot, 0, sequence.num_computed)
            self._join(donor, slot, sequence.num_computed)
        sequence.donor = None

    def share(self, slots: list[int], num_tokens: int) -> None:
        """These slots hold the same first `num_tokens` tokens from now on, as far as whole quanta go."""
        self._groups += 1
        self.columns.group[slots] = self._groups
        self.columns.shared[slots] = num_tokens // ROW_QUANTUM * ROW_QUANTUM

    def _join(self, donor: int, slot: int, num_tokens: int) -> None:
        """A slot that holds the donor's first `num_tokens` belongs to its group, unless that has more in common."""
        c, whole = self.columns, num_tokens // ROW_QUANTUM * ROW_QUANTUM
        if not c.shared[donor]:  # alone until now
            self.share([donor, slot], num_tokens)
        elif whole >= c.shared[donor]:
            c.group[slot], c.shared[slot] = c.group[donor], c.shared[donor]

    def spread(self, homes: list[int], start: int, end: int) -> None:
        """Tokens [start, end) were computed in the first of these slots; all of them spell the same text."""
        first, *others = homes
        for slot in others:
            self.slots.copy(first, slot, start, end)
        self.columns.length[homes] = end
        if others:
            self.share(homes, end)

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

    def reorder(self, sources: list[int], targets: list[int]) -> None:
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

    def let_decode(self, ready: Many[Sequence]) -> None:
        """Sequences whose prompts are complete decode from now on, behind those that do already."""
        for sequence in ready:
            slot = self.slot_of[sequence]
            self._exchange(self.num_decoding, slot, self.seated[self.num_decoding] is not None)
            self.num_decoding += 1

    def lengthen(self, num_tokens: int) -> None:
        """Room for longer sequences: for those that are left alone, which in the end are few and long."""
        if num_tokens <= self.slots.num_tokens:
            return
        taken = 1 + max(self.slot_of.values())
        # Whoever comes next has to ask for room again, so no empty place may be beyond what there is.
        del self.seated[taken:]
        self._reserve(taken, num_tokens)
