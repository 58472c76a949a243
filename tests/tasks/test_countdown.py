"""The countdown taskset: its split, its drawing, its check."""

import hashlib
import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import farthing.tasks as tasks
from farthing.tasks.tasksets.countdown import is_held_out, reachable

TASK = tasks.load("countdown")


def turn(answer: str, thinking: str = "hm") -> str:
    return f"<think>{thinking}</think><answer>{answer}</answer>"


def brute_force(numbers: tuple[int, ...]) -> set[int]:
    """All integer values by trying every order, independently of the code under test."""
    if len(numbers) == 1:
        return {numbers[0]}
    found = set()
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = [numbers[k] for k in range(len(numbers)) if k not in (i, j)]
        a, b = numbers[i], numbers[j]
        values = [a + b, a - b, a * b]
        if b != 0 and Fraction(a, b).denominator == 1:
            values.append(a // b)
        for value in values:
            found |= brute_force((*rest, value))
    return found


@pytest.mark.parametrize("numbers", [(3, 5, 8), (1, 1, 1), (2, 7, 20), (6, 6, 12), (19, 19, 20)])
def test_reachable_agrees_with_brute_force(numbers: tuple[int, ...]) -> None:
    assert set(reachable(numbers)) == brute_force(numbers)


def test_the_split_is_the_stated_hash_of_the_sorted_numbers() -> None:
    assert is_held_out([8, 3, 5]) == (hashlib.sha256(b"3,5,8").digest()[0] < 26)
    sets = list(itertools.combinations_with_replacement(range(1, 21), 3))
    assert len(sets) == 1540
    assert sum(map(is_held_out, sets)) == 164


def test_problems_are_pure_and_keep_to_their_split() -> None:
    train = [TASK.problem("train", i) for i in range(500)]
    held = [TASK.problem("heldout", i) for i in range(500)]
    assert not any(is_held_out(p["numbers"]) for p in train)
    assert all(is_held_out(p["numbers"]) for p in held)
    again = tasks.load("countdown")
    assert [again.problem("train", i) for i in reversed(range(500))] == train[::-1]
    assert tasks.load("countdown", seed=1).problem("train", 0) != train[0]
    assert all(1 <= p["target"] <= 100 and len(p["numbers"]) == 3 for p in train + held)


def test_numbers_are_drawn_uniformly() -> None:
    counts = [0] * 21
    for i in range(4000):
        for number in TASK.problem("train", i)["numbers"]:
            counts[number] += 1
    # 12,000 draws, 600 expected each, standard deviation 24; held-out sets skew a number by a few per cent.
    assert all(450 < n < 750 for n in counts[1:])


@pytest.mark.parametrize("settings", [{}, {"count": 4, "max_number": 100}, {"count": 2, "prompt": "full"}])
def test_gold_answers_score_one(settings: dict) -> None:
    task = tasks.load("countdown", **settings)
    for i in range(50):
        problem = task.problem("heldout", i)
        score = task.score(task.gold(**problem), **problem)
        assert (score.correct, score.parts["format"], score.error) == (1.0, 1.0, None)


@pytest.mark.parametrize(
    ("answer", "correct", "canonical"),
    [
        ("3*8*1", 1.0, "24"),
        ("8 × 3 ÷ 1", 1.0, "24"),
        ("(8*3)/1 = 24", 1.0, "24"),
        ("-1*8*(-3)", 1.0, "24"),
        ("8/(1/3)", 1.0, "24"),
        ("8/1/3", 0.0, "8/3"),
        ("3*8", 0.0, "24 from 3,8"),
        ("3*8*1*1", 0.0, "24 from 1,1,3,8"),
        ("24", 0.0, "24 from 24"),
        ("8*3+1", 0.0, "25"),
        ("3/(1-1)*8", 0.0, "undefined from 1,1,3,8"),
        ("8*3*1 = 25", 0.0, None),
        ("8*3*1 = 24*1", 0.0, None),
        ("38*1", 0.0, "38 from 1,38"),
        ("3**8*1", 0.0, None),
        ("__import__('os')", 0.0, None),
        ("9" * 5000, 0.0, None),
        ("(" * 190 + "1", 0.0, None),
        ("", 0.0, None),
        ("3*8*1)", 0.0, None),
        ("+".join(["1"] * 99), 0.0, None),
    ],
)
def test_answers(answer: str, correct: float, canonical: str | None) -> None:
    score = TASK.score(turn(answer), numbers=[1, 3, 8], target=24)
    assert (score.correct, score.answer, score.parts["accuracy"]) == (correct, canonical, correct)


def test_format_and_accuracy_are_judged_apart() -> None:
    problem = {"numbers": [1, 3, 8], "target": 24}
    bare = TASK.score("<answer>3*8*1</answer>", **problem)
    assert (bare.correct, bare.parts["format"]) == (1.0, 0.0)
    several = TASK.score(turn("3*8*1") + "<answer>3+8+1</answer>", **problem)
    assert (several.correct, several.parts["format"]) == (0.0, 0.0)
    in_thinking = TASK.score("<think><answer>3*8*1</answer></think>", **problem)
    assert (in_thinking.correct, in_thinking.answer) == (0.0, None)
    unclosed = TASK.score("<think>3*8*1 <answer>3*8*1</answer>", **problem)
    assert (unclosed.correct, unclosed.parts["format"]) == (0.0, 0.0)


@given(st.text(max_size=300))
def test_any_text_gets_a_verdict(text: str) -> None:
    score = TASK.score(turn(text), numbers=[1, 3, 8], target=24)
    assert score.correct in (0.0, 1.0)
    assert score.error is None


def test_messages() -> None:
    assert TASK.messages(numbers=[3, 5, 8], target=24) == [
        {"role": "user", "content": "Use 3, 5 and 8 to make 24."}
    ]


@pytest.mark.parametrize("line", ["3 5 8 = 24", "use 3, 5 and 8 to make 24", "Use 3, 5 and 8 to make 24."])
def test_a_typed_line_is_read_as_the_problem_it_stands_for(line):
    assert TASK.read(line) == {"numbers": [3, 5, 8], "target": 24}


@pytest.mark.parametrize(
    "line", ["", "hello", "24", "3 = 24", "what is 3 5 8 = 24", "3 5 8", "3 5 8 = x", "1 " * 9]
)
def test_any_other_line_is_not_a_problem(line):
    assert TASK.read(line) is None


def test_the_words_of_a_problem_are_read_back_as_that_problem():
    for index in range(50):
        problem = TASK.problem("heldout", index)
        assert TASK.read(TASK.messages(**problem)[0]["content"]) == problem
