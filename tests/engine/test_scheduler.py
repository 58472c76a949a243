"""The scheduler alone, without a tensor: driven through every kind of pressure it conserves blocks, keeps its
budgets, is fair, and always comes to an end."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.engine.api import Request, SamplingParams
from farthing.engine.blocks import BlockPool
from farthing.engine.scheduler import Scheduler
from farthing.engine.sequence import Sequence
from farthing.errors import EngineError

SIZE = 4


@dataclass
class Load:
    """What is asked of a scheduler: (prompt, new tokens, step of arrival, step of abortion or None)."""

    num_blocks: int
    max_running: int
    prefill_tokens: int
    keep_cold: bool
    requests: list[tuple[list[int], int, int, int | None]]
    leaves_rests: bool = False


@dataclass
class Machine:
    """A runner without tensors: follows the scheduler's plan as the engine does, and counts."""

    load: Load
    finished: list[int] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    seated: set[int] = field(default_factory=set)
    steps: int = 0

    def __post_init__(self) -> None:
        pool = BlockPool(self.load.num_blocks, SIZE)
        self.scheduler = Scheduler(pool, self.load.max_running, self.load.prefill_tokens, self.load.keep_cold)
        self.sequences: dict[int, Sequence] = {}

    def run(self) -> None:
        work = sum(len(prompt) + new for prompt, new, _, _ in self.load.requests)
        last = max(arrival for _, _, arrival, _ in self.load.requests)
        # Preemption repeats work, at worst all of it for every token of somebody older.
        limit = last + 50 + work * (work + 1)
        while self.steps <= last or not self.scheduler.is_idle:
            self.step()
            assert self.steps < limit, "no end in sight"

    def step(self) -> None:
        for index, (prompt, new, arrival, abortion) in enumerate(self.load.requests):
            if arrival == self.steps:
                request = Request(tuple(prompt), SamplingParams(max_new_tokens=new), str(index))
                self.sequences[index] = Sequence(request, index)
                self.scheduler.add(self.sequences[index])
            if abortion == self.steps and self.scheduler.abort(str(index)) is not None:
                self.aborted.append(index)
                self.seated.discard(index)
        self.admit()
        self.decode()
        self.prefill()
        self.check()
        self.steps += 1

    def admit(self) -> None:
        while (sequence := self.scheduler.admit_one()) is not None:
            self.unseat_dropped()
            if sequence.donor is not None:
                assert sequence.donor.arrival in self.seated, "copied from somebody who has left"
                donated, own = sequence.donor.token_ids, sequence.token_ids
                assert donated[: sequence.num_computed] == own[: sequence.num_computed]
            assert sequence.num_computed < sequence.num_known, "nothing left to draw from"
            self.seated.add(sequence.arrival)
            sequence.donor = None
        self.unseat_dropped()

    def unseat_dropped(self) -> None:
        for sequence in self.scheduler.drain_dropped():
            self.seated.discard(sequence.arrival)

    def decode(self) -> None:
        for sequence in list(self.scheduler.running):
            if sequence not in self.scheduler.running:
                continue
            for victim in self.scheduler.reserve(sequence, sequence.num_known + 1):
                self.seated.discard(victim.arrival)
                older = [*self.scheduler.running, *self.scheduler.prefilling]
                assert all(other.arrival < victim.arrival for other in older), "an older one was sent back"
        self.unseat_dropped()
        rests = self.scheduler.rests() if self.load.leaves_rests else []
        for rest in rests:
            assert rest.is_last and (rest.end - 1) // SIZE * SIZE <= rest.start < rest.end
            self.scheduler.prefilled(rest)
        for sequence in list(self.scheduler.running):
            self.draw(sequence)

    def draw(self, sequence: Sequence) -> None:
        sequence.generated.append(len(sequence.generated) % 2)
        if len(sequence.generated) >= sequence.request.params.max_new_tokens:
            self.finished.append(sequence.arrival)
            if not self.scheduler.finish(sequence):
                self.seated.discard(sequence.arrival)
            self.unseat_dropped()

    def prefill(self) -> None:
        chunks = self.scheduler.chunks(self.load.leaves_rests)
        if self.load.leaves_rests:
            assert not any(chunk.is_last for chunk in chunks), "a last block goes into a step"
        read = {(chunk.start, chunk.end, *chunk.sequence.token_ids) for chunk in chunks}
        assert sum(end - start for start, end, *_ in read) <= self.load.prefill_tokens
        ends = {(chunk.start, *chunk.sequence.token_ids): chunk.end for chunk in chunks}
        assert len(ends) == len(read), "equal texts go on together"
        assert all(chunk.end > chunk.start for chunk in chunks)
        assert [c.sequence.arrival for c in chunks] == sorted(c.sequence.arrival for c in chunks)
        for chunk in chunks:
            self.scheduler.prefilled(chunk)
        for chunk in chunks:
            if chunk.is_last:
                self.draw(chunk.sequence)

    def check(self) -> None:
        scheduler = self.scheduler
        scheduler.check_integrity()
        assert len(scheduler.running) + len(scheduler.prefilling) <= self.load.max_running
        arrivals = [sequence.arrival for sequence in scheduler.waiting]
        assert arrivals == sorted(arrivals), "somebody was overtaken in the queue"
        for sequence in scheduler.running:
            assert len(sequence.table) * SIZE >= sequence.num_known - 1
        cold = [sequence.arrival for sequence in scheduler.cold]
        held = [sequence.arrival for sequence in [*scheduler.running, *scheduler.prefilling]]
        assert sorted(cold + held) == sorted(self.seated)


@st.composite
def loads(draw: st.DrawFn) -> Load:
    num_blocks = draw(st.integers(2, 12))
    room = num_blocks * SIZE
    requests = []
    for _ in range(draw(st.integers(1, 9))):
        # Few different tokens, so that many prompts share a beginning.
        prompt = draw(st.lists(st.integers(0, 1), min_size=1, max_size=max(1, room // 2)))
        new = draw(st.integers(1, max(1, room - len(prompt))))
        arrival = draw(st.integers(0, 12))
        abortion = draw(st.none() | st.integers(arrival, arrival + 25))
        requests.append((prompt, new, arrival, abortion))
    requests.sort(key=lambda one: one[2])
    return Load(
        num_blocks,
        draw(st.integers(1, 6)),
        draw(st.integers(1, 30)),
        draw(st.booleans()),
        requests,
        draw(st.booleans()),
    )


@settings(max_examples=250, deadline=None)
@given(loads())
def test_every_load_ends_with_the_books_in_order(load: Load) -> None:
    machine = Machine(load)
    machine.run()
    assert sorted(machine.finished + machine.aborted) == list(range(len(load.requests)))
    assert len(set(machine.finished)) == len(machine.finished)
    for sequence in list(machine.scheduler.cold):
        machine.scheduler.drop_cold(sequence)
    assert machine.scheduler.pool.num_free == load.num_blocks


def test_cold_prefixes_never_stand_in_the_way() -> None:
    """The one kept donor fills the cache and shares a block with a request that needs all of it: the donor goes."""
    load = Load(6, 4, 100, True, [([1] * 8, 14, 0, None), ([1] * 4 + [0] * 16, 4, 30, None)])
    machine = Machine(load)
    machine.run()
    assert machine.finished == [0, 1]


def test_nobody_starves() -> None:
    """A large request is served although small ones keep coming, and the oldest is never sent back to wait."""
    small = [([1, 0, 1], 3, arrival, None) for arrival in range(60)]
    large = ([0] * 10, 20, 5, None)
    load = Load(8, 3, 8, False, sorted([*small, large], key=lambda one: one[2]))
    machine = Machine(load)
    machine.run()
    index = load.requests.index(large)
    behind = [one for one in machine.finished if one > index]
    assert machine.finished.index(index) < len(machine.finished) - len(behind) // 2


def test_what_can_never_fit_is_refused_at_once() -> None:
    scheduler = Scheduler(BlockPool(4, SIZE), 2, 8, False)
    with pytest.raises(EngineError, match="'long' needs 17 tokens; the cache holds 16"):
        scheduler.add(Sequence(Request((1,) * 9, SamplingParams(max_new_tokens=8), "long"), 1))
    scheduler.add(Sequence(Request((1,) * 9, SamplingParams(max_new_tokens=7), "fits"), 2))
    assert len(scheduler.waiting) == 1


def test_integrity_checks_look_at_waiting_sequences_too() -> None:
    scheduler = Scheduler(BlockPool(4, SIZE), 2, 8, False)
    sequence = Sequence(Request((1, 2)), 1)
    scheduler.waiting.append(sequence)
    scheduler.check_integrity()
    sequence.table = scheduler.pool.acquire([], 1, sequence)
    with pytest.raises(EngineError):
        scheduler.check_integrity()


def test_equal_prompts_count_once_and_are_not_cut_apart() -> None:
    scheduler = Scheduler(BlockPool(64, 16), 8, 64, keep_cold=False)
    prompts = [tuple(range(40))] * 4 + [tuple(range(1, 41))] * 3 + [(5,) * 20]
    for arrival, prompt in enumerate(prompts):
        scheduler.add(Sequence(Request(prompt, SamplingParams(max_new_tokens=2), str(arrival)), arrival))
    while scheduler.admit_one():
        pass
    ends = [chunk.end for chunk in scheduler.chunks(leave_rests=False)]
    assert ends == [40, 40, 40, 40, 24, 24, 24], "40 tokens for four, 24 are left for three more"
