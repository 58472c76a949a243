"""The ledger: phases that never overlap, time between them booked, nothing lost but the open phase of a kill."""

import json
import os
import time
from pathlib import Path

import pytest

from farthing.cost.ledger import Entry, Ledger, balance, read, summarize
from farthing.errors import FarthingError, RunError


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ledger(path: Path, clock: Clock, attempt: int = 1, price: float = 0.0) -> Ledger:
    cpu = Clock()
    return Ledger(path, attempt, 2.0, price, clock=clock, cpu_clock=lambda: cpu.now)


def test_a_phase_is_one_line_with_its_work(tmp_path: Path) -> None:
    clock = Clock()
    book = ledger(tmp_path / "ledger.jsonl", clock)
    clock.now += 0.5
    with book.phase("grpo", "generate", 3) as entry:
        entry.tokens += 100
        entry.tokens += 28
        entry.flops += 1e9
        entry.note("truncated", 0.25)
        entry.note("truncated", 0.25)
        clock.now += 2.0
    book.close()
    header, line = (json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert (header["attempt"], header["cores"]) == (1, 2.0)
    assert header["started"] > 1.7e9
    assert line == {
        "attempt": 1,
        "stage": "grpo",
        "kind": "generate",
        "step": 3,
        "start_s": 0.5,
        "wall_s": 2.0,
        "cpu_s": 0.0,
        "tokens": 128,
        "flops": 1e9,
        "waste": {"truncated": 0.5},
    }
    (read_back,) = read(tmp_path / "ledger.jsonl")
    assert read_back == Entry(1, "grpo", "generate", 3, 0.5, 2.0, 0.0, 128, 1e9, {"truncated": 0.5})


def test_a_phase_inside_another_is_an_error_and_the_outer_one_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    book = ledger(tmp_path / "ledger.jsonl", clock)
    with book.phase("grpo", "train", 1):
        clock.now += 1
        with pytest.raises(FarthingError, match="phase grpo/evaluate opened inside grpo/train"):
            book.phase("grpo", "evaluate").__enter__()
        clock.now += 1
    book.close()
    assert [(entry.kind, entry.wall_s) for entry in read(tmp_path / "ledger.jsonl")] == [("train", 2.0)]


def test_time_that_ended_in_an_error_was_still_spent(tmp_path: Path) -> None:
    clock = Clock()
    book = ledger(tmp_path / "ledger.jsonl", clock)
    with pytest.raises(KeyboardInterrupt), book.phase("grpo", "train", 1):
        clock.now += 3
        raise KeyboardInterrupt
    with book.phase("grpo", "checkpoint", 1):
        clock.now += 1
    book.close()
    kinds = [(entry.kind, entry.start_s, entry.wall_s) for entry in read(tmp_path / "ledger.jsonl")]
    assert kinds == [("train", 0.0, 3.0), ("checkpoint", 3.0, 1.0)]


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    book = ledger(tmp_path / "ledger.jsonl", Clock())
    with pytest.raises(FarthingError, match='unknown kind of phase "trian"; known: generate, score'):
        book.phase("grpo", "trian").__enter__()
    with book.phase("grpo", "train") as entry, pytest.raises(FarthingError, match='unknown waste "sleep"'):
        entry.note("sleep", 1.0)
    book.close()


def test_wall_and_money_run_on_through_attempts_and_gaps(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    first = ledger(path, clock)
    clock.now += 1
    with first.phase("pretrain", "train", 1):
        clock.now += 9
    clock.now += 100  # killed here: the file is not closed, and nothing after the last phase is known
    second = ledger(path, clock, attempt=2, price=3.6)
    assert second.wall_s == 10.0
    with second.phase("pretrain", "train", 1):
        clock.now += 5
    clock.now += 2
    assert second.wall_s == 17.0
    assert second.money == pytest.approx(17.0 * 2 / 3600 * 3.6)
    second.close()
    entries = read(path)
    balance(entries)
    totals = summarize(entries, cores=2, price=3.6)
    assert totals["wall_s"] == 17.0
    assert totals["money"] == pytest.approx(second.money)
    assert totals["other_s"] == 3.0
    assert totals["attempts"] == 2
    assert totals["waste"]["repeated"]["wall_s"] == 9.0


def test_a_torn_line_is_cut_and_the_rest_kept(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.jsonl", Clock()
    book = ledger(path, clock)
    for step in (1, 2):
        with book.phase("grpo", "train", step):
            clock.now += 1
    os.truncate(path, path.stat().st_size - 7)
    again = ledger(path, clock, attempt=2)
    assert again.wall_s == 1.0
    again.close()
    assert [entry.step for entry in read(path)] == [1]


def test_the_clocks_of_the_machine_are_used_by_default(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.jsonl", 1, 1.0)
    with book.phase("grpo", "train"):
        sum(range(200_000))
    book.close()
    entries = read(tmp_path / "ledger.jsonl")
    balance(entries)
    assert 0 < entries[0].cpu_s < 60
    assert 0 < entries[0].wall_s < 60


def test_what_is_no_ledger_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"attempt": 1, "stage": "a", "kind": "train", "pace": 3}\n')
    with pytest.raises(RunError, match=r"ledger\.jsonl: record 1 is not a line of a ledger"):
        read(path)


def test_a_held_phase_waits_for_what_is_only_known_later(tmp_path: Path) -> None:
    """Whether a group taught anything is known after scoring; its phase is written then, in its place."""
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, 1, 2)
    with ledger.phase("grpo", "generate", 0, held=True) as drawing:
        time.sleep(0.001)
    assert read(path) == []
    with ledger.phase("grpo", "score", 0):
        drawing.note("dead_groups", drawing.wall_s / 2)
    assert [(entry.kind, entry.waste) for entry in read(path)] == [
        ("generate", {"dead_groups": drawing.wall_s / 2}),
        ("score", {}),
    ]
    with ledger.phase("grpo", "generate", 1, held=True):
        pass
    ledger.close()
    assert [entry.kind for entry in read(path)][:3] == ["generate", "score", "generate"]
    balance(read(path))
