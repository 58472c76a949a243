"""Which samples are learnt from: each filter by example, and the choice among what passes."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from farthing.config import parse
from farthing.stages.config.rejection import EVERY_FILTER, FilterName, RejectionConfig
from farthing.stages.filters import FILTERS, Candidate, failed, select, without_thinking

GOOD = "<think>two and two is four</think><answer>4</answer>"


def candidate(**changes: Any) -> Candidate:
    given: dict[str, Any] = {
        "key": "p", "problem": {}, "sample": 0, "seed": 1, "text": GOOD, "tokens": 10, "is_truncated": False,
        "repetition": 0.0, "correct": 1.0, "parts": {},
    }  # fmt: skip
    return Candidate(**{**given, **changes})


def config(**keys: Any) -> RejectionConfig:
    return parse(RejectionConfig, keys, "here")


def test_every_filter_has_its_function() -> None:
    assert tuple(FILTERS) == get_args(FilterName) == tuple(EVERY_FILTER)
    assert failed(candidate(), config()) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"correct": 0.0}, "verified"),
        ({"correct": None}, "verified"),
        ({"is_truncated": True}, "finished"),
        ({"text": "<answer>4</answer>"}, "closed_thinking"),
        ({"text": "<think>two and two is four<answer>4</answer>"}, "closed_thinking"),
        ({"text": "<think> </think><answer>4</answer>"}, "closed_thinking"),
        ({"text": "<think>a</think><think>b</think><answer>4</answer>"}, "closed_thinking"),
        ({"text": "well<think>a</think><answer>4</answer>"}, "closed_thinking"),
        (
            {"text": "<think>dos manzanas y tres peras son cinco frutas. Then we subtract the two apples that were "
                     "eaten by the children</think><answer>3</answer>"},
            "one_language",
        ),
        ({"parts": {"language": 0.5}}, "one_language"),
        ({"repetition": 0.6}, "no_repetition"),
        ({"tokens": 300}, "length"),
    ],
)  # fmt: skip
def test_what_is_not_learnt_from(changes: dict[str, Any], reason: str) -> None:
    assert failed(candidate(**changes), config()) == reason
    others = [name for name in EVERY_FILTER if name != reason]
    assert failed(candidate(**changes), config(filters=others)) is None


def test_thinking_without_words_is_in_no_wrong_language() -> None:
    assert failed(candidate(text="<think>2+2=4!</think><answer>2+2</answer>"), config()) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, "<answer>4</answer>"),
        ("<answer>4</answer>", None),
        ("<think>a", None),
        ("<think>a</think> ", None),
    ],
)
def test_thinking_is_taken_out_whole_or_not_at_all(text: str, expected: str | None) -> None:
    assert without_thinking(text) == expected


def test_the_best_of_each_problem_by_rule() -> None:
    drawn = [
        candidate(key="a", sample=0, tokens=9, text=GOOD + "0"),
        candidate(key="a", sample=1, tokens=5, text=GOOD + "1"),
        candidate(key="a", sample=2, tokens=5, text=GOOD + "1"),
        candidate(key="b", sample=0, correct=0.0),
        candidate(key="c", sample=0, tokens=7),
        candidate(key="a", sample=3, tokens=6, text=GOOD + "2"),
    ]
    shortest = select(drawn, config(keep_per_prompt=2))
    assert [(one.key, one.sample) for one in shortest.kept] == [("a", 1), ("a", 3), ("c", 0)]
    assert {name: n for name, n in shortest.rejected.items() if n} == {
        "verified": 1,
        "duplicate": 1,
        "quota": 1,
    }
    assert len(drawn) == len(shortest.kept) + sum(shortest.rejected.values())
    longest = select(drawn, config(prefer="longest"))
    assert [(one.key, one.sample) for one in longest.kept] == [("a", 0), ("c", 0)]
    first = select(drawn, config(prefer="first", keep_per_prompt=9))
    assert [one.sample for one in first.kept if one.key == "a"] == [0, 1, 3]
