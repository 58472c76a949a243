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
from farthing.errors import EngineError


class Seats:
    """`slots`: keys and values; `columns`: what else decoding needs of each; `seated` and `slot_of`: who is where."""

    def __init__(self, slots: Slots, automaton: Automaton | None = None) -> None:
        self.slots, self.automaton = slots, automaton
        self.columns = Columns(0, 0, 1)
        self.seated: list[Sequence | None] = []
        self.slot_of: dict[Sequence, int] = {}
        self.num_decoding = 0

    def expect(self, count: int, num_tokens: int) -> None:
        """So many sequences come and get no longer than `num_tokens`: room for them at once, if the system grants it,
        so that it need not grow. Plain products want no room to spare."""
        if self.slots.are_read_exactly:
            with contextlib.suppress(OSError):
                self._reserve(count, num_tokens)

    def _reserve(self, count: int, num_tokens: int) -> None:
        """Room for `count` sequences and the padding of a batch."""
        num_slots = padded_rows(count) + ROW_QUANTUM
        if self.slots.has_room(num_slots, num_tokens):
            return
        held = [
            int(length) if sequence else 0
            for sequence, length in zip(self.seated, self.columns.length, strict=False)
        ]
        self.slots.reserve(num_slots, num_tokens, held)

    def seat(self, sequence: Sequence) -> None:
        """Give a sequence a slot, and the prefix it shares with its donor."""
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
        c.holder[slot], c.shared[slot] = slot, 0
        if sequence.donor is not None and sequence.num_computed:
            self._borrow(self.slot_of[sequence.donor], slot, sequence.num_computed)
        sequence.donor = None

    def spread(self, homes: list[int], num_tokens: int) -> None:
        """The first of these slots holds so many tokens of a text that all of them spell: now all do."""
        first, *others = homes
        for slot in others:
            self._borrow(first, slot, num_tokens)
        self.columns.length[homes] = num_tokens

    def _borrow(self, lender: int, slot: int, num_tokens: int) -> None:
        """`slot` has the lender's first `num_tokens` too: whole quanta are read where they are, the rest is copied."""
        c = self.columns
        self._hand_over(slot)
        holder, shared = int(c.holder[lender]), num_tokens // ROW_QUANTUM * ROW_QUANTUM
        if holder != lender:
            shared = min(shared, int(c.shared[lender]))
        edge = min(max(shared, int(c.shared[lender])), num_tokens)
        self.slots.copy(holder, slot, shared, edge)
        self.slots.copy(lender, slot, edge, num_tokens)
        c.holder[slot], c.shared[slot] = holder if shared else slot, shared

    def _hand_over(self, slot: int) -> None:
        """Who reads a beginning in this slot has it elsewhere from now on: in the slot of the one that reads most."""
        c = self.columns
        heirs = np.flatnonzero(c.holder == slot)
        heirs = heirs[heirs != slot]
        if len(heirs):
            heir = int(heirs[c.shared[heirs].argmax()])
            self.slots.copy(slot, heir, 0, int(c.shared[heir]))
            c.holder[heirs], c.shared[heir] = heir, 0

    def own(self, slots: Many[int] | np.ndarray) -> None:
        """These slots hold all that they have themselves, for who does not ask where it is."""
        c, slots = self.columns, np.asarray(slots, np.int64)
        for slot in slots[c.holder[slots] != slots].tolist():
            self.slots.copy(int(c.holder[slot]), slot, 0, int(c.shared[slot]))
            c.holder[slot], c.shared[slot] = slot, 0

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
        if not keep_slot:
            self._hand_over(slot)
        if slot <= last:
            self.num_decoding = last
            self._exchange(slot, last, keep_slot)
        if not keep_slot:
            self.release(sequence)

    def release(self, sequence: Sequence) -> None:
        """Free a slot that is not decoding."""
        slot = self.slot_of.pop(sequence)
        self._hand_over(slot)
        self.seated[slot], self.columns.holder[slot], self.columns.shared[slot] = None, slot, 0
        if not self.slot_of:
            self.slots.clear()

    def _exchange(self, slot: int, other: int, is_kept: bool) -> None:
        """The sequence in `other` moves to `slot`; whoever is there goes the other way, with keys and values if those
        are kept."""
        if slot == other:
            return
        both, c = [slot, other], self.columns
        if is_kept:
            self.slots.exchange(slot, other, int(c.shared[both].min()), int(c.length[both].max()))
        else:
            self.slots.copy(other, slot, int(c.shared[other]), int(c.length[other]))
        c.permute(both, both[::-1])
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

    def check_integrity(self) -> None:
        """Whoever reads a beginning elsewhere reads it where somebody sits who has that much himself; raises
        EngineError otherwise."""
        c = self.columns
        for slot, holder in enumerate(c.holder[: len(self.seated)].tolist()):
            has = self.seated[holder] is not None and c.holder[holder] == holder
            if holder != slot and not (has and 0 < c.shared[slot] <= min(c.length[[slot, holder]])):
                raise EngineError(f"slot {slot} reads {c.shared[slot]} tokens of slot {holder}")
