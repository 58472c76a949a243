"""Comparing models: paired by problem, in numbers and in words."""

from __future__ import annotations

from typing import Any

import pytest

from farthing.stages.evidence import Answer, Asked, comparison, comparisons, sentence


def entries(rates: list[float], **more: list[float]) -> list[dict[str, Any]]:
    return [
        {"problem": {"n": n}, "rate": rate, **{name: column[n] for name, column in more.items()}}
        for n, rate in enumerate(rates)
    ]


def test_every_pair_is_compared_on_each_taskset_both_were_asked() -> None:
    problems = {
        "base": {"sums": entries([0.0] * 40), "words": entries([0.5] * 4, language=[0.2] * 4)},
        "rl": {"sums": entries([1.0] * 40), "words": entries([0.5] * 4, language=[0.9] * 4)},
        "last": {"sums": entries([1.0] * 20)},
    }
    found = {(row["a"], row["b"], row["task"]): row for row in comparisons(problems)}
    assert list(found) == [
        ("base", "rl", "sums"), ("base", "rl", "words"), ("base", "last", "sums"), ("rl", "last", "sums")
    ]  # fmt: skip
    gain = found["base", "rl", "sums"]
    assert (gain["difference"], gain["n"]) == (1.0, 40) and gain["p_better"] > 0.99
    assert gain["interval"][0] > 0.8 and gain["interval"][1] == 1.0
    assert found["rl", "last", "sums"]["n"] == 20, "only the problems that both were asked"
    words = found["base", "rl", "words"]
    assert (words["difference"], words["p_better"]) == (0.0, 0.5)
    assert words["language"]["difference"] == pytest.approx(0.7)


def test_a_problem_that_is_asked_twice_is_paired_twice() -> None:
    """A taskset with few problems repeats itself; the difference is that of the two rates."""
    rows = {
        name: {"sums": [{"problem": {"n": n % 2}, "rate": rate} for n, rate in enumerate(rates)]}
        for name, rates in {"a": [0.0, 0.5, 1.0, 0.5], "b": [1.0, 0.5, 1.0, 1.0]}.items()
    }
    (found,) = comparisons(rows)
    assert (found["n"], found["difference"]) == (4, pytest.approx(0.875 - 0.5))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([0.0] * 50, [1.0] * 50, "b is better with more than 99% probability"),
        ([1.0] * 50, [0.0] * 50, "a is better with more than 99% probability"),
        ([1.0] * 30, [1.0] * 30, "no difference can be told from 30 problems"),
        ([1.0], [0.0], "no difference can be told from 1 problem"),
    ],
)
def test_a_comparison_in_words(first: list[float], second: list[float], said: str) -> None:
    assert sentence(comparison("a", "b", "t", first, second)) == said


def test_a_probability_below_certainty_is_told_as_it_is() -> None:
    found = comparison("old", "new", "t", [0.0] * 30, [1.0] * 6 + [0.0] * 22 + [-1.0] * 2)
    assert 0.9 < found["p_better"] < 0.995
    assert sentence({**found, "p_better": 0.967}) == "new is better with 97% probability"


def test_an_answer_survives_json() -> None:
    kept = Asked(
        {"n": 1},
        [3, 4],
        [Answer(None, None, 7, None, True), Answer(1.0, "8", 5, 2, False, {"language": 1.0})],
    )
    assert Asked.of(kept.record()) == kept
