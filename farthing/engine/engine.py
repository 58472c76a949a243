"""The engine: continuous batching in one step, and the loops people call.

admit -> make room -> decode one token a row, beside the last tokens of prompts -> hand over what has ended -> prefill
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from farthing.engine.api import Completion, Request, TokenEvent
from farthing.engine.automaton import Automaton
from farthing.engine.blocks import BlockPool
from farthing.engine.runner import Runner
from farthing.engine.scheduler import Scheduler
from farthing.engine.sequence import Chunk, Sequence
from farthing.errors import EngineError
from farthing.models.decoder import Decoder

BLOCK_SIZE = 16


class Engine:
    """Generates with `model` as it is at each step; after changing its weights call `publish`.

    `max_running`: sequences decoded together. `cache_tokens`: how many tokens of keys and values may be held.
    `prefill_tokens`: prompt tokens computed between two decode steps. `keep_prefixes`: finished sequences stay as
    donors of their prefix until room is needed (chat turns), at most `max_cold` of them: each holds a slot as long as
    the longest sequence there is; pointless where weights change every step.
    `tokenizer` supplies the default stop token for requests that name none. `automaton` ends those completions whose
    request has a state in it.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Any = None,
        *,
        max_running: int = 256,
        cache_tokens: int = 1 << 18,
        prefill_tokens: int = 4096,
        keep_prefixes: bool = False,
        max_cold: int | None = None,
        cache_dtype: torch.dtype | None = None,
        automaton: Automaton | None = None,
    ) -> None:
        self.model, self.tokenizer, self.policy_version = model, tokenizer, 0
        self._cache_dtype = cache_dtype
        pool = BlockPool(-(-cache_tokens // BLOCK_SIZE), BLOCK_SIZE)
        self.scheduler = Scheduler(pool, max_running, prefill_tokens, keep_prefixes, max_cold)
        self.runner = Runner(model, cache_dtype, automaton)
        self.seats = self.runner.seats
        self._arrivals = 0

    @property
    def automaton(self) -> Automaton | None:
        """What may end completions whose request has a state in it."""
        return self.seats.automaton

    def publish(self, policy_version: int, compute_dtype: torch.dtype | None = None) -> None:
        """New weights: refresh the compute view, forget every cached prefix."""
        self.policy_version = policy_version
        self.model.publish(compute_dtype)
        self.seats.slots.convert(self._cache_dtype or compute_dtype or self.model.head_weight.dtype)
        self.scheduler.forget_prefixes()
        self._release_dropped()

    def add(self, request: Request) -> None:
        """Queue a request. Raises EngineError if it could never be carried out."""
        request = self._checked(request)
        self._arrivals += 1
        self.scheduler.add(Sequence(request, self._arrivals))

    def _checked(self, request: Request) -> Request:
        """The request with its stop token; raises EngineError for a prompt that would bring down a whole batch."""
        prompt, vocabulary = request.prompt_ids, self.model.config.vocab_size
        if not prompt:
            raise EngineError(f"request {request.request_id!r}: the prompt is empty")
        for token in (min(prompt), max(prompt)):
            if not 0 <= token < vocabulary:
                raise EngineError(
                    f"request {request.request_id!r}: token {token} is not among the {vocabulary} there are"
                )
        if not 0 <= request.state < (self.automaton.num_states if self.automaton else 1):
            raise EngineError(
                f"request {request.request_id!r}: the engine's automaton has no state {request.state}"
            )
        stop = getattr(self.tokenizer, "eos_id", None)
        if request.params.stop_token_ids or stop is None:
            return request
        return replace(request, params=replace(request.params, stop_token_ids=(stop,)))

    def abort(self, request_id: str) -> Completion | None:
        """Stop a request wherever it is; what it had generated comes back, None if it is not here."""
        sequence = self.scheduler.abort(request_id)
        if sequence is None:
            return None
        if sequence in self.seats.slot_of:
            self.seats.unseat(sequence)
        return self._completion(sequence, "aborted")

    def generate(self, requests: Many[Request]) -> list[Completion]:
        """All completions, in the order of the requests."""
        order = {}
        for index, request in enumerate(requests):
            self.add(request)
            order[self._arrivals] = index
        completions: list[Completion | None] = [None] * len(requests)
        while not self.scheduler.is_idle:
            for sequence, completion in self._advance():
                if sequence.arrival in order:
                    completions[order[sequence.arrival]] = completion
        return [completion for completion in completions if completion is not None]

    def stream(self, request: Request) -> Iterator[TokenEvent]:
        """Token by token, for one request; given up half-way, it is taken out."""
        self.add(request)
        completion = None
        try:
            while completion is None:
                for event in self.step():
                    if event.request_id == request.request_id:
                        completion = event.completion
                        yield event
        finally:
            if completion is None:
                self.abort(request.request_id)

    def step(self) -> list[TokenEvent]:
        """Advance everything by one token; one event for each token drawn."""
        drawn: list[tuple[str, int, float, Sequence]] = []
        done = dict(self._advance(drawn))
        return [
            TokenEvent(name, token, logprob, done.get(sequence), sequence.top[-1] if sequence.top else ())
            for name, token, logprob, sequence in drawn
        ]

    @torch.no_grad()
    def _advance(
        self, drawn: list[tuple[str, int, float, Sequence]] | None = None
    ) -> list[tuple[Sequence, Completion]]:
        self._admit()
        self._make_room()
        rests = self.scheduler.rests() if self.runner.takes_rests else []
        slots = self.runner.decode(rests) if self.seats.num_decoding or rests else np.zeros(0, np.int64)
        self._prefilled(rests)
        decoded = [self.seats.seated[slot] for slot in slots] if drawn is not None else []
        ended = self._collect(slots, drawn, decoded)
        return ended + self._prefill(drawn)

    def _admit(self) -> None:
        if self.scheduler.waiting and not self.seats.slot_of:
            self.seats.expect(*self.scheduler.to_come())
        while (sequence := self.scheduler.admit_one()) is not None:
            self._release_dropped()
            self.seats.seat(sequence)
        self._release_dropped()

    def _release_dropped(self) -> None:
        for sequence in self.scheduler.drain_dropped():
            self.seats.release(sequence)

    def _prefill(
        self, drawn: list[tuple[str, int, float, Sequence]] | None
    ) -> list[tuple[Sequence, Completion]]:
        chunks = self.scheduler.chunks(leave_rests=self.runner.takes_rests)
        if not chunks:
            return []
        self.runner.prefill(chunks)
        ready = self._prefilled(chunks)
        slots = np.array([self.seats.slot_of[sequence] for sequence in ready], np.int64)
        return self._collect(slots, drawn, ready)

    def _prefilled(self, chunks: list[Chunk]) -> list[Sequence]:
        """Chunks are in their slots; returns those whose prompts are complete."""
        for chunk in chunks:
            self.scheduler.prefilled(chunk)
        ready = [chunk.sequence for chunk in chunks if chunk.is_last]
        for sequence in ready:
            self._note_room(sequence)
        return ready

    def _note_room(self, sequence: Sequence) -> None:
        self.seats.columns.room[self.seats.slot_of[sequence]] = len(sequence.table) * BLOCK_SIZE

    def _make_room(self) -> None:
        """Every decoding row needs a place for the token it is about to write."""
        columns = self.seats.columns
        rows = slice(self.seats.num_decoding)
        full = np.flatnonzero(columns.length[rows] + 1 > columns.room[rows])
        for sequence in [self.seats.seated[slot] for slot in full]:
            if sequence is None or sequence not in self.seats.slot_of:
                continue
            needed = int(columns.length[self.seats.slot_of[sequence]]) + 1
            for victim in self.scheduler.reserve(sequence, needed):
                self.seats.unseat(victim)
            if sequence in self.seats.slot_of:
                self._note_room(sequence)
        self._release_dropped()

    def _collect(
        self,
        slots: np.ndarray,
        drawn: list[tuple[str, int, float, Sequence]] | None,
        drawn_by: Many[Sequence | None],
    ) -> list[tuple[Sequence, Completion]]:
        """Note what was drawn (if anybody streams) and hand over the sequences that have ended."""
        columns = self.seats.columns
        if drawn is not None:
            for slot, sequence in zip(slots.tolist(), drawn_by, strict=True):
                if sequence is not None:
                    last = columns.logprobs[slot, columns.count[slot] - 1]
                    drawn.append(
                        (sequence.request.request_id, int(columns.last[slot]), float(last), sequence)
                    )
        ended_slots, reasons = columns.ended(slots, self.automaton)
        # From the back, so that the row which fills the gap is one that goes on.
        ended = [self.seats.seated[slot] for slot in ended_slots.tolist()[::-1]]
        completions = []
        for sequence, reason in zip(ended, reasons[::-1], strict=True):
            if sequence is not None:
                keeps = self.scheduler.keep_cold
                self.seats.unseat(sequence, keep_slot=keeps)
                if not self.scheduler.finish(sequence) and keeps:
                    self.seats.release(sequence)
                completions.append((sequence, self._completion(sequence, reason)))
        if completions:
            self._release_dropped()
        return completions

    def _completion(self, sequence: Sequence, reason: Any) -> Completion:
        return Completion(
            sequence.request.request_id,
            sequence.generated,
            sequence.logprobs,
            sequence.sampling_logprobs,
            reason,
            self.policy_version,
            sequence.cached_tokens,
            tuple(sequence.prompt_logprobs),
            tuple(sequence.prompt_top),
            tuple(sequence.embedding),
        )

    def check_integrity(self) -> None:
        """The books of blocks and slots agree; raises EngineError otherwise."""
        self.scheduler.check_integrity()
        self.seats.check_integrity()
