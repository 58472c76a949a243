"""The check itself: every kind of broken taskset is caught."""

import random
from typing import Any

import pytest

import farthing.tasks as tasks
from farthing.errors import TaskError
from farthing.tasks.draws import Draws
from farthing.tasks.task import Message, Problem, Score, Split, Taskset
from farthing.tasks.verifiers.verdict import Verdict


class Echo(Taskset):
    """A sound taskset: say the number. Subclasses break it in one way each."""

    name = "echo"

    def __init__(self) -> None:
        super().__init__(None)

    def size(self, split: Split) -> int | None:
        return 20

    def problem(self, split: Split, index: int) -> Problem:
        return {"n": index + (100 if split == "heldout" else 0)}

    def messages(self, *, n: int) -> list[Message]:
        return [{"role": "user", "content": f"Say {n}."}]

    def gold(self, *, n: int) -> str:
        return f"{n}"

    def wrong(self, *, n: int) -> str | None:
        return f"{n}!"

    def score(self, completion: str, *, n: int) -> Score:
        return Score.of(Verdict(float(completion == f"{n}"), completion), well_formed=True)


def broken(**methods: Any) -> Taskset:
    return type("Broken", (Echo,), methods)()


def test_a_sound_taskset_passes() -> None:
    report = tasks.check(Echo())
    assert report.ok and report.gold_accepted == report.wrong_rejected == 40
    assert list(report.lines())[-1] == "ok"


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"gold": lambda self, n: f"{n + (n == 7)}"}, "the gold answer '8' scored 0"),
        ({"score": lambda self, c, n: Score(None, error="timeout")}, "could not be scored (timeout)"),
        ({"score": lambda self, c, n: Score(1.0)}, "a wrong answer '0!' scored 1"),
        ({"score": lambda self, c, n: Score(float(c in ("", f"{n}")))}, "an empty completion scored 1"),
        ({"score": lambda self, c, n: Score(1.0, {"format": 0.0})}, "the gold answer '0' scored 1 (parts"),
        ({"key": lambda self, n: str(n % 100)}, "held-out problem also in train: '0'"),
        ({"problem": lambda self, split, index: {"n": random.random()}}, "two different problems"),
        ({"problem": lambda self, split, index: {"n": (index,)}}, "does not survive JSON"),
        (
            {"messages": lambda self, n: [{"role": "user", "content": " "}]},
            "does not end with words of the user",
        ),
        ({"size": lambda self, split: 0}, "no problems at all"),
    ],
)
def test_each_fault_is_named(methods: dict, words: str) -> None:
    report = tasks.check(broken(**methods))
    assert not report.ok
    assert any(words in failure for failure in report.failures), report.failures
    assert len(report.failures) <= 20


@pytest.mark.parametrize("name", ["countdown", "arithmetic", "stories"])
def test_our_own_tasksets_pass(name: str) -> None:
    report = tasks.check(tasks.load(name), n=100)
    assert report.ok, report.failures
    assert report.gold_accepted == report.wrong_rejected == 200


def test_unknown_tasksets_and_settings_name_the_nearest() -> None:
    with pytest.raises(TaskError, match='did you mean "countdown"'):
        tasks.load("countdwon")
    with pytest.raises(TaskError, match='did you mean "max_number"'):
        tasks.load("countdown", max_numbre=3)
    with pytest.raises(TaskError, match="count = 9"):
        tasks.load("countdown", count=9)


def test_every_taskset_in_the_table_can_be_imported() -> None:
    import importlib

    for name, target in tasks.TASKSETS.items():
        module, _, attribute = target.partition(":")
        cls = getattr(importlib.import_module(module), attribute)
        assert issubclass(cls, Taskset) and cls.name == name and cls.__doc__


def test_draws_are_named_by_their_key_and_uniform() -> None:
    assert Draws("a", 1).between(0, 10**9) == Draws("a", 1).between(0, 10**9)
    assert Draws("a", 1).between(0, 10**9) != Draws("a", 2).between(0, 10**9)
    draws = Draws("uniform")
    counts = [0] * 6
    for _ in range(6000):
        counts[draws.below(6)] += 1
    # Expected 1,000 each with standard deviation 29: five of them either way happen once in 300,000 tests.
    assert all(850 < n < 1150 for n in counts)
    assert sorted(draws.shuffled(range(50))) == list(range(50))
    assert all(0.0 <= draws.uniform() < 1.0 for _ in range(100))
    # Three quarters of the range of a word: taking the remainder alone would hit the lower third half of the time.
    low = sum(draws.below(3 << 62) < 1 << 62 for _ in range(600))
    assert 140 < low < 260
    with pytest.raises(ValueError):
        draws.below(0)


def test_the_stream_of_draws_never_changes() -> None:
    """Recorded once: a change here would change every problem of every run."""
    draws = Draws("countdown", 0, "train", 0)
    assert [draws.below(1000) for _ in range(6)] == RECORDED


RECORDED = [77, 946, 443, 882, 874, 15]
