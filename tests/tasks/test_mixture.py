"""Several tasksets as one: each as often as its weight, each judging its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import farthing.tasks as tasks
from farthing.tasks.draws import interleaved
from farthing.tasks.mixture import Mixture


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    parts = {"sums": tasks.load("countdown"), "words": tasks.load("stories", languages=["pt"])}
    return Mixture(parts, {"sums": 1, "words": 2}, seed=5)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5), min_size=1),
    st.integers(0, 9),
    st.integers(0, 2**45),
)
def test_nothing_is_skipped_and_weights_are_exact(weights: dict[str, int], seed: int, far: int) -> None:
    total = sum(weights.values())
    drawn = [interleaved(("x", seed), weights, index) for index in range(3 * total)]
    for name, weight in weights.items():
        assert [own for stream, own in drawn if stream == name] == list(range(3 * weight))
        assert sum(stream == name for stream, _ in drawn[:total]) == weight
    assert interleaved(("x", seed), dict(reversed(weights.items())), far) == interleaved(
        ("x", seed), weights, far
    )


def test_the_order_depends_on_the_seed_and_differs_between_runs() -> None:
    orders = {
        seed: [interleaved(("x", seed), {"a": 2, "b": 2}, index)[0] for index in range(40)]
        for seed in range(2)
    }
    assert orders[0] != orders[1]
    assert len({tuple(orders[0][start : start + 4]) for start in range(0, 40, 4)}) > 1


def test_a_mixture_is_a_taskset_like_any_other(mixture: Mixture) -> None:
    report = tasks.check(mixture, n=60)
    assert report.ok, report.failures


def test_each_judges_its_own_and_the_order_is_kept(mixture: Mixture) -> None:
    problems = [mixture.problem("train", index) for index in range(9)]
    assert sorted(problem["taskset"] for problem in problems) == ["sums"] * 3 + ["words"] * 6
    scores = mixture.score_many([(mixture.gold(**problem), problem) for problem in problems])
    for problem, score in zip(problems, scores, strict=True):
        assert score.correct == 1.0
        assert ("language" in score.parts) == (problem["taskset"] == "words")


def test_the_form_is_that_of_the_problem(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1?", "answer": "1"}\n')
    boxed = tasks.load("jsonl", path=str(file), form="boxed", heldout_share=0.0)
    both = Mixture({"file": boxed, "sums": tasks.load("countdown")}, {"file": 1, "sums": 1})
    forms = {p["taskset"]: both.form(**p) for p in (both.problem("train", index) for index in range(2))}
    assert forms == {"file": "boxed", "sums": "tags"}


def test_a_typed_line_is_read_by_whoever_understands_it(mixture: Mixture) -> None:
    assert mixture.read("3 5 8 = 24") == {"taskset": "sums", "problem": {"numbers": [3, 5, 8], "target": 24}}
    assert mixture.read("hello") is None


def test_size_is_until_a_finite_part_begins_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_text("".join(f'{{"question": "{i}?", "answer": "{i}"}}\n' for i in range(7)))
    parts = {
        "file": tasks.load("jsonl", path=str(file), heldout_path=str(file)),
        "sums": tasks.load("countdown"),
    }
    assert Mixture(parts, {"file": 2, "sums": 3}).size("heldout") == 15
    assert Mixture({"sums": parts["sums"]}, {"sums": 1}).size("train") is None
