"""Adding up: every total agrees with every other, and each way to cook the books is caught."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.cost.ledger import KINDS, WASTE, Entry, balance, summarize
from farthing.cost.totals import recent_step, with_gaps
from farthing.errors import FarthingError

micro = st.integers(0, 5_000_000).map(lambda n: n / 1e6)


@st.composite
def ledgers(draw: st.DrawFn) -> list[Entry]:
    """What a run could have written: attempts of phases in order, with gaps between them."""
    entries = []
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        now = 0
        for _ in range(draw(st.integers(0, 6))):
            start, wall = now + draw(st.integers(0, 2_000_000)), draw(st.integers(0, 5_000_000))
            now = start + wall
            entry = Entry(
                attempt,
                draw(st.sampled_from(["pretrain", "grpo"])),
                draw(st.sampled_from(KINDS)),
                draw(st.none() | st.integers(0, 5)),
                start / 1e6,
                wall / 1e6,
                draw(micro),
                draw(st.integers(0, 10_000)),
                draw(st.floats(0, 1e15)),
            )
            if draw(st.booleans()):
                entry.note(draw(st.sampled_from(WASTE)), entry.wall_s * draw(st.floats(0, 1)))
            entries.append(entry)
    return entries


@given(ledgers())
def test_every_honest_ledger_balances(entries: list[Entry]) -> None:
    balance(entries)


@given(ledgers(), st.floats(0.5, 64), st.floats(0, 10))
def test_totals_by_stage_and_by_kind_are_the_whole(entries: list[Entry], cores: float, price: float) -> None:
    totals = summarize(entries, cores, price)
    for what in ("wall_s", "cpu_s", "tokens", "flops", "money"):
        for name in ("by_stage", "by_kind"):
            added = math.fsum(row[what] for row in totals[name].values())
            assert added == pytest.approx(totals[what], rel=1e-9, abs=1e-9)
    assert totals["money"] == pytest.approx(totals["wall_s"] * cores / 3600 * price)
    assert totals["wall_s"] >= math.fsum(entry.wall_s for entry in entries) - 1e-6
    assert totals["tokens"] == sum(entry.tokens for entry in entries)
    assert json.loads(json.dumps(totals)) == totals


@given(ledgers())
def test_waste_never_exceeds_the_time_spent(entries: list[Entry]) -> None:
    totals = summarize(entries, 1, 1)
    for waste in totals["waste"].values():
        assert -1e-9 <= waste["wall_s"] <= totals["wall_s"] + 1e-6


@given(ledgers(), st.randoms())
def test_the_order_of_the_lines_does_not_matter(entries: list[Entry], random: Any) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)
    balance(shuffled)
    assert summarize(shuffled, 2, 1)["wall_s"] == pytest.approx(summarize(entries, 2, 1)["wall_s"])


def test_a_gap_belongs_to_the_stage_that_follows_it() -> None:
    entries = [Entry(1, "pretrain", "train", 1, 1.0, 2.0), Entry(1, "grpo", "generate", 1, 4.0, 1.0)]
    filled = [(entry.stage, entry.kind, entry.start_s, entry.wall_s) for entry in with_gaps(entries)]
    assert filled == [
        ("pretrain", "other", 0.0, 1.0),
        ("pretrain", "train", 1.0, 2.0),
        ("grpo", "other", 3.0, 1.0),
        ("grpo", "generate", 4.0, 1.0),
    ]
    totals = summarize(entries, 2, 1.0)
    assert totals["by_stage"]["grpo"]["wall_s"] == 2.0
    assert totals["other_s"] == 2.0


def test_money_is_core_hours_times_price_and_mfu_is_against_the_peak() -> None:
    entries = [Entry(1, "grpo", "train", 1, 0.0, 1800.0, tokens=5, flops=9e12)]
    totals = summarize(entries, cores=2, price=0.05, peak_flops=1e10)
    assert totals["money"] == pytest.approx(0.05)
    assert totals["mfu"] == pytest.approx(0.5)
    assert "mfu" not in summarize(entries, 2, 0.05)
    assert summarize([], 2, 0.05, peak_flops=1e10)["mfu"] == 0.0


def test_work_done_again_is_waste_once() -> None:
    entries = [
        Entry(1, "grpo", "train", 1, 0.0, 1.0, waste={"dead_groups": 0.5}),
        Entry(1, "grpo", "train", 2, 1.0, 2.0, waste={"dead_groups": 2.0}),
        Entry(2, "grpo", "evaluate", 1, 0.0, 4.0),  # another kind at step 1 repeats nothing
        Entry(2, "grpo", "train", 2, 4.0, 2.0, waste={"truncated": 0.25}),
        Entry(1, "grpo", "setup", None, 3.0, 1.0),
        Entry(2, "grpo", "setup", None, 6.0, 1.0),
    ]
    waste = {kind: row["wall_s"] for kind, row in summarize(entries, 1, 3600)["waste"].items()}
    assert waste == {"dead_groups": 0.5, "truncated": 0.25, "repeated": 2.0}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([Entry(1, "a", "train", 1, 0.0, -1.0)], "a/train, step 1: wall_s is -1.0"),
        ([Entry(1, "a", "train", 1, 0.0, 1.0, cpu_s=float("nan"))], "cpu_s is nan"),
        ([Entry(1, "a", "train", 1, 0.0, 1.0, tokens=-3)], "tokens is -3"),
        ([Entry(1, "a", "train", 1, 0.0, 1.0, flops=float("inf"))], "flops is inf"),
        ([Entry(1, "a", "train", 1, -2.0, 1.0)], "start_s is -2.0"),
        ([Entry(1, "a", "nap", 1, 0.0, 1.0)], "a/nap, step 1: unknown kind"),
        (
            [Entry(1, "a", "train", 1, 0.0, 1.0, waste={"truncated": 1.1})],
            "1.1 s of truncated wasted in a phase",
        ),
        ([Entry(1, "a", "train", 1, 0.0, 1.0, waste={"truncated": -0.1})], "truncated is -0.1"),
        ([Entry(1, "a", "train", 1, 0.0, 1.0, waste={"lunch": 0.1})], "0.1 s of lunch wasted"),
        (
            [Entry(1, "a", "train", 1, 0.0, 2.0), Entry(1, "b", "score", 1, 1.5, 1.0)],
            "attempt 1: b/score starts at 1.5 s, inside a/train which ends at 2.0 s",
        ),
        (
            [Entry(2, "a", "train", 1, 0.0, 5.0), Entry(2, "b", "score", 1, 1.0, 1.0)],
            "attempt 2: b/score starts at 1.0 s, inside a/train",
        ),
    ],
)
def test_a_ledger_that_does_not_balance_says_where(entries: list[Entry], expected: str) -> None:
    with pytest.raises(FarthingError) as caught:
        balance(entries)
    assert expected in str(caught.value)


def test_a_long_phase_hides_nothing_behind_a_short_one() -> None:
    entries = [
        Entry(1, "a", "train", 1, 0.0, 10.0),
        Entry(1, "b", "score", 1, 10.0, 0.0),
        Entry(1, "c", "score", 1, 12.0, 1.0),
    ]
    balance(entries)
    with pytest.raises(FarthingError, match="inside"):
        balance([*entries, Entry(1, "d", "score", 1, 9.0, 0.5)])


def test_a_recent_step_is_of_the_last_attempt_and_holds_what_lies_between() -> None:
    entries = [
        Entry(1, "grpo", "train", 1, 0.0, 50.0, 50.0),
        Entry(2, "grpo", "setup", None, 0.0, 9.0, 9.0),
        Entry(2, "grpo", "generate", 1, 10.0, 2.0, 1.0),
        Entry(2, "grpo", "train", 1, 12.0, 2.0, 3.0),
        Entry(2, "grpo", "train", 2, 16.0, 4.0, 8.0),
        Entry(2, "sft", "train", 9, 30.0, 4.0, 8.0),
    ]
    assert recent_step(entries, "grpo") == {"wall_s": 5.0, "cpu_s": 6.0}
    assert recent_step(entries, "grpo", steps=1) == {"wall_s": 4.0, "cpu_s": 8.0}
    assert recent_step(entries, "pretrain") is None
