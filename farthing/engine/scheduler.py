"""Who runs next: admission by blocks, a token budget for prefill, preemption of the newest. No tensors.

A sequence waits, is admitted with blocks for all it has so far plus one token, is prefilled in chunks, decodes one
token at a time, and finishes. Where the decoding step can take several tokens of a sequence, a prompt's last block goes
there and the blocks before it are prefilled: where the cut is depends on the prompt alone, not on what was cached.
When decoding needs a block and none is free, cold sequences (finished, kept for their prefix) go first, then the newest
running one is sent back to wait; it keeps its tokens and, because tokens are a function of (logits, seed, position),
goes on exactly where it was.
"""

from __future__ import annotations

from collections import deque

from farthing.engine.blocks import BlockPool
from farthing.engine.sequence import Chunk, Sequence, num_alike
from farthing.errors import EngineError

# A prompt that becomes a vector is cut here and nowhere else, so that its numbers do not depend on the budget: what one
# step may read at the least.
EMBED_CHUNK = 64


class Scheduler:
    def __init__(
        self,
        pool: BlockPool,
        max_running: int,
        prefill_tokens: int,
        keep_cold: bool,
        max_cold: int | None = None,
    ) -> None:
        self.pool, self.max_running, self.prefill_tokens = pool, max_running, prefill_tokens
        self.keep_cold, self.max_cold = keep_cold, max_cold
        self.waiting: deque[Sequence] = deque()
        self.prefilling: list[Sequence] = []
        self.running: list[Sequence] = []
        self.cold: deque[Sequence] = deque()
        self._dropped: list[Sequence] = []

    @property
    def is_idle(self) -> bool:
        return not (self.waiting or self.prefilling or self.running)

    def add(self, sequence: Sequence) -> None:
        total = sequence.num_known + sequence.num_to_write
        if self.pool.blocks_for(total) > self.pool.num_blocks:
            raise EngineError(
                f"request {sequence.request.request_id!r} needs {total} tokens; "
                f"the cache holds {self.pool.num_blocks * self.pool.block_size}"
            )
        self.waiting.append(sequence)

    def to_come(self) -> tuple[int, int]:
        """Of those who wait: how many can be seated at once, and how long the longest of them can get, as far as there
        are blocks if all became so long."""
        count = min(len(self.waiting), self.max_running)
        longest = max((sequence.num_known + sequence.num_to_write for sequence in self.waiting), default=0)
        return count, min(longest, self.pool.num_blocks // max(count, 1) * self.pool.block_size)

    def admit_one(self) -> Sequence | None:
        """Seat the oldest waiting sequence if there are blocks and a place for it; nobody overtakes."""
        if not self.waiting or len(self.running) + len(self.prefilling) >= self.max_running:
            return None
        sequence = self.waiting[0]
        tokens = sequence.token_ids
        shared = [] if sequence.request.params.reads_prompt else self.pool.match(tokens[:-1])
        needed = self.pool.blocks_for(len(tokens) + min(1, sequence.num_to_write)) - len(shared)
        if needed > self.pool.num_free and not self._thaw(needed, shared):
            # What it would share stands in its own way. Those who run will make room; where nobody does, it goes too.
            if self.running or self.prefilling or not self._thaw(needed + len(shared), []):
                return None
            shared, needed = [], needed + len(shared)
        self.waiting.popleft()
        self._seat(sequence, shared, needed)
        self.prefilling.append(sequence)
        return sequence

    def _seat(self, sequence: Sequence, shared: list[int], needed: int) -> None:
        sequence.donor, sequence.num_computed = self._donor(sequence, shared)
        cached = min(sequence.num_computed, len(sequence.request.prompt_ids))
        sequence.cached_tokens, sequence.is_stale = max(sequence.cached_tokens, cached), False
        sequence.table = self.pool.acquire(shared, needed, sequence)

    def _donor(self, sequence: Sequence, shared: list[int]) -> tuple[Sequence | None, int]:
        """From whose slot the beginning is copied, and how many tokens: whole blocks, and of the last block what they
        have in common too, if it was the donor's last as well. Both compute that in the same way. One token is left, to
        draw from."""
        whole, tokens = len(shared) * self.pool.block_size, sequence.token_ids
        donor, most = None, whole
        for holder in self.pool.blocks[shared[-1]].holders if shared else ():
            if isinstance(holder, Sequence):
                common = whole
                if holder.last_block <= whole >= self._whole_blocks(sequence):
                    common += num_alike(holder.computed(whole, len(tokens) - 1), tokens[whole:])
                if donor is None or common > most:
                    donor, most = holder, common
        return donor, most

    def _thaw(self, needed: int, keep: list[int]) -> bool:
        """Drop cold sequences, oldest first, until `needed` blocks are free; those that hold `keep` stay."""
        for sequence in list(self.cold):
            if self.pool.num_free >= needed:
                break
            if not set(keep) & set(sequence.table):
                self.drop_cold(sequence)
        return self.pool.num_free >= needed

    def drop_cold(self, sequence: Sequence) -> None:
        """Forget a finished sequence that was kept for its prefix."""
        self.cold.remove(sequence)
        self._release(sequence)
        self._dropped.append(sequence)

    def forget_prefixes(self) -> None:
        """The weights have changed: what was computed before serves those who have it to their end, and nobody else."""
        for sequence in list(self.cold):
            self.drop_cold(sequence)
        for sequence in [*self.prefilling, *self.running]:
            sequence.is_stale = True
        self.pool.forget_prefixes()

    def drain_dropped(self) -> list[Sequence]:
        """Cold sequences dropped since the last call: their slots are to be freed."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.table, sequence)
        sequence.table, sequence.num_computed = [], 0

    def rests(self) -> list[Chunk]:
        """The last blocks of prompts, where those before them are computed: they go into the next decoding step."""
        return [
            Chunk(sequence, sequence.num_computed, sequence.num_known)
            for sequence in self.prefilling
            if sequence.num_computed >= self._whole_blocks(sequence)
        ]

    def _whole_blocks(self, sequence: Sequence) -> int:
        """Where a sequence's last block begins; its end, where the states of all its tokens are wanted."""
        if sequence.request.params.reads_prompt:
            return sequence.num_known
        return (sequence.num_known - 1) // self.pool.block_size * self.pool.block_size

    def chunks(self, leave_rests: bool) -> list[Chunk]:
        """What to prefill in this step, within the token budget, oldest first; with or without the last blocks. Equal
        texts are computed once and counted once."""
        chunks, budget, ends = [], self.prefill_tokens, dict[tuple[int, ...], int]()
        for sequence in self.prefilling:
            is_alone = sequence.request.params.embed
            text = (is_alone and sequence.arrival, sequence.num_computed, *sequence.token_ids)
            if text not in ends:
                if budget <= 0:
                    break
                end = self._whole_blocks(sequence) if leave_rests else sequence.num_known
                ends[text] = min(end, sequence.num_computed + (EMBED_CHUNK if is_alone else budget))
                budget -= max(ends[text] - sequence.num_computed, 0)
            if ends[text] > sequence.num_computed:
                chunks.append(Chunk(sequence, sequence.num_computed, ends[text]))
        return chunks

    def prefilled(self, chunk: Chunk) -> None:
        """A chunk is in its slot; a complete prompt becomes shareable and starts to decode."""
        sequence = chunk.sequence
        sequence.num_computed = chunk.end
        if chunk.is_last:
            sequence.last_block = self._whole_blocks(sequence)
            self.prefilling.remove(sequence)
            self.running.append(sequence)
            if not sequence.is_stale:
                self.pool.publish(sequence.table, sequence.token_ids, sequence)

    def reserve(self, sequence: Sequence, length: int) -> list[Sequence]:
        """Make room for `sequence` to hold `length` tokens; returns those preempted (possibly itself)."""
        preempted: list[Sequence] = []
        missing = self.pool.blocks_for(length) - len(sequence.table)
        while missing > self.pool.num_free and not self._thaw(missing, []):
            victim = max(self.running + self.prefilling, key=lambda candidate: candidate.arrival)
            self.preempt(victim)
            preempted.append(victim)
            if victim is sequence:
                return preempted
        sequence.table += self.pool.acquire([], max(missing, 0), sequence)
        return preempted

    def preempt(self, sequence: Sequence) -> None:
        (self.running if sequence in self.running else self.prefilling).remove(sequence)
        self._release(sequence)
        self.waiting.appendleft(sequence)

    def finish(self, sequence: Sequence) -> bool:
        """The sequence is done; True if its slot stays as a cold donor of its prefix."""
        (self.running if sequence in self.running else self.prefilling).remove(sequence)
        # Nobody goes on from a vector: it would only drive out conversations, which people do go on with.
        if self.keep_cold and not sequence.is_stale and not sequence.request.params.embed:
            self.pool.publish(sequence.table, sequence.token_ids[:-1], sequence)
            sequence.num_computed = sequence.num_known - 1
            self.cold.append(sequence)
            while self.max_cold is not None and len(self.cold) > self.max_cold:
                self.drop_cold(self.cold[0])
            return True
        self._release(sequence)
        return False

    def abort(self, request_id: str) -> Sequence | None:
        """Take a request out, wherever it is; returns it if it was in a slot or waiting, None if it is not here."""
        for sequence in self.waiting:
            if sequence.request.request_id == request_id:
                self.waiting.remove(sequence)
                return sequence
        for sequence in [*self.prefilling, *self.running]:
            if sequence.request.request_id == request_id:
                (self.running if sequence in self.running else self.prefilling).remove(sequence)
                self._release(sequence)
                return sequence
        return None

    def check_integrity(self) -> None:
        """The pool's books against every sequence that holds blocks."""
        seated = [*self.prefilling, *self.running, *self.cold]
        self.pool.check_integrity([sequence.table for sequence in seated])
        if any(sequence.table for sequence in self.waiting):
            raise EngineError("a waiting sequence holds blocks")
