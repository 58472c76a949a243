"""The corpus: pure functions of an index, honest arithmetic, and never a held-out set of numbers."""

from __future__ import annotations

import hashlib
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.data.countdown_student import CountdownStudent, Student, attempts
from farthing.data.sources import HELDOUT_START, as_text, load_source
from farthing.errors import RecipeError
from farthing.tasks import load
from farthing.text import bpe
from farthing.text.chat import render

PIECE = re.compile(r"(\d+)([+*/-])(\d+)=(\d+)")


def numbers_of(asked: str) -> list[int]:
    """What a short question uses; the last number is the target."""
    return [int(number) for number in re.findall(r"\d+", asked)][:-1]


def is_held_out(numbers: list[int]) -> bool:
    """The rule of the task, written once more from its description."""
    return hashlib.sha256(",".join(map(str, sorted(numbers))).encode()).digest()[0] < 26


def test_no_document_uses_a_held_out_set_of_numbers() -> None:
    """Neither those that are read nor those on which the held-out loss is measured; with any target."""
    student = CountdownStudent(seed=0)
    for start in (0, HELDOUT_START):
        for index in range(start, start + 1500):
            numbers = numbers_of(student.document(index)[0])
            assert len(numbers) == 3 and not is_held_out(numbers)
    held = load("countdown")
    assert all(is_held_out(held.problem("heldout", index)["numbers"]) for index in range(300))


@given(st.integers(0, 2**45), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_document_is_a_function_of_seed_and_index(index: int, seed: int) -> None:
    """Whatever was asked before."""
    first = CountdownStudent(seed=seed)
    for other in (3, 1, 2):
        first.document(other)
    assert first.document(index) == CountdownStudent(seed=seed).document(index)


def test_seed_and_settings_make_another_corpus() -> None:
    corpora = [
        CountdownStudent(seed=0),
        CountdownStudent(seed=1),
        CountdownStudent(seed=0, lean=0.9),
        CountdownStudent(seed=0, task={"max_number": 9}),
    ]
    texts = [tuple(corpus.document(index) for index in range(20)) for corpus in corpora]
    assert len(set(texts)) == 4
    assert len(set(texts[0])) == 20


def test_what_is_written_is_right_even_where_the_answer_is_not() -> None:
    """Every step of every try computes; the last try is what is answered; the mark tells whether it was found."""
    student, taskset, found = CountdownStudent(seed=4), load("countdown"), 0
    for index in range(400):
        asked, written = student.document(index)
        problem = taskset.problem("train", index)
        assert asked == taskset.messages(**problem)[0]["content"]
        match = re.fullmatch(r"<think>(.*)([!?])</think><answer>(.*)</answer>", written, re.DOTALL)
        assert match is not None
        for a, sign, b, value in PIECE.findall(match[1]):
            exact = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": int(a) / int(b)}[
                sign
            ]
            assert exact == int(value)
        last = int(match[1].rsplit("=", 1)[1])
        assert eval(match[3]) == last
        score = taskset.score(written, **problem)
        assert score.parts["format"] == 1.0
        assert score.correct == float(match[2] == "!") == float(last == problem["target"])
        found += match[2] == "!"
    assert 20 < found < 200, "a careless student: sometimes right, mostly not"


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=4),
    st.integers(1, 100),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_patience_always_ends(
    numbers: list[int], target: int, seed: int, give_up: float, lean: float, forget: float
) -> None:
    """Also where a single idea exists, a student never gives up and notices every repetition."""
    student = Student(give_up_least=0.0, give_up_most=give_up, lean=lean, forget=forget, longest=6)
    lines, expression, found = attempts(random.Random(seed), student, numbers, target)
    assert 1 <= len(lines) <= 6
    assert found == (eval(expression) == target)
    assert sorted(map(int, re.findall(r"\d+", expression))) == sorted(numbers)


def test_a_document_is_what_the_template_makes_of_the_two_turns() -> None:
    """Ids equal: what is learnt in pretraining is what reinforcement learning and the chat will show."""
    student = CountdownStudent(seed=0)
    tokenizer = bpe.train((as_text(*student.document(index)) for index in range(150)), 420, 2)
    for index in range(150, 250):
        asked, written = student.document(index)
        rendered = render(
            tokenizer, [{"role": "user", "content": asked}, {"role": "assistant", "content": written}]
        )
        assert rendered.ids == tokenizer.encode(as_text(asked, written), special=True)
        assert rendered.text == as_text(asked, written)
        prompt = render(tokenizer, [{"role": "user", "content": asked}], add_generation_prompt=True)
        assert rendered.ids[: len(prompt.ids)] == prompt.ids
        assert rendered.loss_mask == [0] * len(prompt.ids) + [1] * (len(rendered.ids) - len(prompt.ids))


@pytest.mark.parametrize(
    ("settings_", "complaint"),
    [
        ({}, "corpus.source None is unknown; choose one of countdown_student, stories_student"),
        ({"source": "wikipedia"}, "'wikipedia' is unknown"),
        ({"source": "countdown_student", "patience": 3}, "corpus: .*patience"),
    ],
)
def test_sources_that_do_not_exist(settings_: dict[str, object], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        load_source(settings_, {"countdown": {"name": "countdown"}}, 0)


def test_a_source_draws_the_problems_of_the_recipe() -> None:
    tasks = {"sums": {"name": "countdown", "count": 2, "max_number": 9}, "words": {"name": "stories"}}
    source = load_source({"source": "countdown_student", "lean": 0.5}, tasks, 3)
    assert source.document(5) == CountdownStudent(3, {"count": 2, "max_number": 9}, lean=0.5).document(5)
    assert all(len(numbers_of(source.document(index)[0])) == 2 for index in range(20))


TWO = {"easy": {"name": "countdown", "count": 2}, "hard": {"name": "countdown", "count": 4}}


def test_several_sources_by_weight() -> None:
    """Of every three documents one is easy and two are hard, and none of either is skipped."""
    corpus = {
        "a": {"source": "countdown_student", "task": "easy"},
        "b": {"source": "countdown_student", "task": "hard", "weight": 2},
    }
    source = load_source(corpus, TWO, 0)
    documents = [source.document(index) for index in range(12)]
    counts = [len(numbers_of(asked)) for asked, _ in documents]
    assert all(sorted(counts[start : start + 3]) == [2, 4, 4] for start in range(0, 12, 3))
    hard = CountdownStudent(0, {"count": 4})
    assert [d for d, n in zip(documents, counts, strict=True) if n == 4] == [
        hard.document(i) for i in range(8)
    ]


@pytest.mark.parametrize(
    ("corpus", "complaint"),
    [
        (
            {"source": "countdown_student"},
            "draws the problems of a countdown taskset and the recipe has several",
        ),
        (
            {"source": "countdown_student", "task": "esy"},
            'corpus.task: unknown taskset "esy"; did you mean "easy"',
        ),
        (
            {"a": {"source": "countdown_student", "weight": 0}},
            "corpus.a.weight = 0: should be a whole number",
        ),
        ({"a": 3}, "corpus.a must be a table"),
    ],
)
def test_mistakes_in_a_corpus_of_several(corpus: dict[str, object], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        load_source(corpus, TWO, 0)
