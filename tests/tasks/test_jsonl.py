"""JSONL tasksets: mapping, complaints with line numbers, splits, verifiers by name, rewards of the user's
own."""

import json
from pathlib import Path
from typing import Any

import pytest

import farthing.tasks as tasks
from farthing.errors import DataError, TaskError, UserError

HERE = Path(__file__).resolve().parent
GSM8K = HERE.parents[1] / "../shared/data/gsm8k"


def write(path: Path, rows: list[Any]) -> str:
    path.write_text(
        "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n", encoding="utf-8"
    )
    return str(path)


@pytest.fixture
def sums(tmp_path: Path) -> str:
    return write(tmp_path / "sums.jsonl", [{"q": f"What is {i} + 1?", "a": i + 1} for i in range(200)])


COLUMNS = {"question": "q", "answer": "a"}


def test_a_file_with_mapped_columns(sums: str) -> None:
    task = tasks.load("jsonl", path=sums, columns=COLUMNS, verifier="numeric")
    train, held = task.size("train"), task.size("heldout")
    assert train is not None and held is not None and train + held == 200 and 5 < held < 40
    problem = task.problem("train", 0)
    assert set(problem) == {"question", "answer"}
    assert problem["question"] in task.messages(**problem)[0]["content"]
    assert task.score("<think>a</think><answer>-1</answer>", **problem).correct == 0.0
    report = tasks.check(task)
    assert report.ok, report.failures
    assert report.keys_compared == train


def test_training_order_is_new_in_every_pass_and_pure(sums: str) -> None:
    task = tasks.load("jsonl", path=sums, columns=COLUMNS)
    n = task.size("train") or 0
    passes = [[task.problem("train", i + n * k)["question"] for i in range(n)] for k in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) and passes[0] != passes[1]
    other = tasks.load("jsonl", path=sums, columns=COLUMNS)
    assert other.problem("train", n + 3)["question"] == passes[1][3]
    held = task.size("heldout") or 0
    assert task.problem("heldout", 2) == task.problem("heldout", held + 2)


def test_a_separate_held_out_file_and_its_leaks(tmp_path: Path, sums: str) -> None:
    other = write(
        tmp_path / "test.jsonl", [{"q": "What is 5 + 1?", "a": 6}, {"q": "What is 900 + 1?", "a": 901}]
    )
    task = tasks.load("jsonl", path=sums, heldout_path=other, columns=COLUMNS, verifier="numeric")
    assert (task.size("train"), task.size("heldout")) == (200, 2)
    report = tasks.check(task)
    assert not report.ok
    assert report.failures == ["held-out problem also in train: 'What is 5 + 1?'"]
    assert list(report.lines())[-1] == "not ok: 1 failures"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"q": "a", "a": "1"}, {"q": "b"}], ':2: no answer: there is no column "a"'),
        ([{"q": "a", "a": "1"}, "", {"q": "b", "a": None}], ':3: no answer: column "a" holds null'),
        ([{"q": "a", "a": "1"}, {"q": "b", "a": "  "}], ":2: no answer"),
        ([{"q": "a", "a": "1"}, {"q": "", "a": "2"}], ":2: no question"),
        ([{"q": "a", "a": True}], ":1: no answer"),
        ([{"q": "a", "a": "1"}, "{not json"], ":2: not JSON"),
        ([{"q": "a", "a": "1"}, [1, 2]], ":2: a row must be an object"),
        ([""], "no problems"),
        ([{"q": "a", "A ": "1"}], "columns.answer"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(tmp_path: Path, rows: list, words: str) -> None:
    path = write(tmp_path / "bad.jsonl", rows)
    with pytest.raises(DataError) as caught:
        tasks.load("jsonl", path=path, columns=COLUMNS)
    assert words in str(caught.value) and path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "row", "meant"),
    [
        ({}, {"problem": "a", "solution": "1"}, 'columns.question = "problem"'),
        ({"question": "problem"}, {"problem": "a", "solution": "1"}, 'columns.answer = "solution"'),
        ({"question": "qestion"}, {"prompt": "x", "question": "a", "answer": "1"}, 'columns.question = "question"'),
        ({"question": "Promt"}, {"prompt": "x", "question": "a", "answer": "1"}, 'columns.question = "prompt"'),
        ({"answer": "gold"}, {"question": "a", "label": "1"}, 'columns.answer = "label"'),
        ({"choices": "choices"}, {"question": "a", "answer": "1", "options": ["x"]}, 'columns.choices = "options"'),
        ({}, {"text": "a", "y": "1"}, "the row has: text, y"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_names_the_one_that_was_meant(
    tmp_path: Path, columns: dict, row: dict, meant: str
) -> None:
    """A usual name stands for another usual one, however they are spelt; a misspelt name for the nearest."""
    path = write(tmp_path / "rows.jsonl", [row])
    with pytest.raises(DataError) as caught:
        tasks.load("jsonl", path=path, columns=columns)
    assert str(caught.value).startswith(f"{path}:1: no ") and meant in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"path": "no/such.jsonl"}, "no such file"),
        ({"verifier": "nummeric"}, 'did you mean "numeric"'),
        ({"verifier": "numeric", "options": {"decimals": ","}}, 'did you mean "decimal"'),
        ({"verifier": "missing.py:reward"}, "no file missing.py"),
        ({"verifier": f"{HERE}/rewards.py:not a name"}, "no function name"),
        ({"prompt": "Solve it"}, "{question}"),
        ({"verifer": "exact"}, 'did you mean "verifier"'),
        ({"columns": {"anwser": "a"}}, "columns"),
        ({"heldout_share": 2.0}, "heldout_share"),
    ],
)
def test_bad_settings_are_refused_in_one_line(sums: str, settings: dict, words: str) -> None:
    with pytest.raises(UserError) as caught:
        tasks.load("jsonl", **{"path": sums, "columns": COLUMNS, **settings})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_split_says_what_to_set(sums: str) -> None:
    task = tasks.load("jsonl", path=sums, columns=COLUMNS, heldout_share=0.0)
    with pytest.raises(TaskError, match="heldout_share"):
        task.problem("heldout", 0)


def test_system_prompt_and_forms(sums: str) -> None:
    task = tasks.load(
        "jsonl", path=sums, columns=COLUMNS, system="Be kind.", form="boxed", prompt="Q: {question}"
    )
    problem = task.problem("train", 0)
    assert task.messages(**problem) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": f"Q: {problem['question']}"},
    ]
    assert task.score(f"<think>a</think>\\boxed{{{problem['answer']}}}", **problem).parts["format"] == 1.0


# The user's own function.


def load_reward(sums: str, name: str, **limits: Any) -> tasks.Taskset:
    verifier = f"{HERE}/rewards.py:{name}"
    return tasks.load("jsonl", path=sums, columns=COLUMNS, verifier=verifier, limits=limits)


def test_a_function_gets_the_completion_and_the_whole_row(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"question": "x", "answer": "y", "minimum": 8, "topic": "t"}])
    task = tasks.load("jsonl", path=path, verifier=f"{HERE}/rewards.py:long_enough", heldout_share=0.0)
    problem = task.problem("train", 0)
    assert problem == {"question": "x", "answer": "y", "minimum": 8, "topic": "t"}
    score = task.score("one two", **problem)
    assert (score.correct, score.parts["accuracy"]) == (0.25, 0.25)


def test_a_function_may_return_parts_and_an_answer(sums: str) -> None:
    task = load_reward(sums, "detailed")
    score = task.score("  ABC 7 ", question="q", answer="7")
    assert (score.correct, score.answer) == (1.0, "abc 7")
    assert score.parts == {"accuracy": 1.0, "format": 0.0, "brevity": pytest.approx(1 / 9)}


def test_a_misbehaving_function_is_never_a_zero(sums: str) -> None:
    task = load_reward(sums, "misbehave", seconds=1.0)
    said = ["hang", "zero", "crash", "none", "nan", "text", "list", "parts", "raise", "zero"]
    scores = task.score_many([(text, {"question": "q", "answer": "a"}) for text in said])
    assert [score.correct for score in scores] == [0.0 if text == "zero" else None for text in said]
    errors = " | ".join(score.error or "-" for score in scores)
    for words in ("timeout", "ended", "returned None", "not a number", "KeyError"):
        assert words in errors


def test_a_function_that_is_not_there_is_a_user_error(sums: str) -> None:
    for name in ("no_such", "not_a_function"):
        with pytest.raises(TaskError, match="cannot be loaded"):
            load_reward(sums, name).score("x", question="q", answer="a")


# Benchmarks by path.


def test_math_by_path(tmp_path: Path) -> None:
    rows = [
        {
            "problem": "Half of 1?",
            "answer": "\\frac{1}{2}",
            "solution": "It is $\\boxed{\\frac12}$.",
            "level": 1,
        },
        {
            "problem": "Roots of x^2 = 1?",
            "answer": "1,-1",
            "solution": "They are $\\boxed{\\pm 1}$.",
            "level": 2,
        },
    ]
    path = write(tmp_path / "math.jsonl", rows)
    for columns in ({}, {"answer": "solution"}):
        task = tasks.load("math500", path=path, columns=columns)
        assert (task.size("train"), task.size("heldout")) == (0, 2)
        assert task.score("<think>a</think>So \\boxed{0.5}.", **task.problem("heldout", 0)).correct == 1.0
        assert task.score("<think>a</think>\\boxed{-1, 1}", **task.problem("heldout", 1)).correct == 1.0
        assert task.score("<think>a</think>\\boxed{1}", **task.problem("heldout", 1)).correct == 0.0
    assert tasks.check(tasks.load("math500", path=path)).ok


def test_aime_by_path(tmp_path: Path) -> None:
    path = write(
        tmp_path / "aime.jsonl", [{"problem": "p", "answer": "033"}, {"problem": "q", "answer": 204}]
    )
    task = tasks.load("aime", path=path)
    assert task.score("<think>a</think>\\boxed{33}", **task.problem("heldout", 0)).correct == 1.0
    assert tasks.check(task).ok


def test_multiple_choice_by_path(tmp_path: Path) -> None:
    arc = {"text": ["red", "green", "blue"], "label": ["1", "2", "3"]}
    rows = [
        {"question": "a", "choices": ["red", "green"], "answer": 1},
        {"question": "b", "choices": ["red", "green"], "answer": "B"},
        {"question": "c", "choices": ["red", "green"], "answer": "Green"},
        {"question": "d", "choices": arc, "answer": "2"},
    ]
    task = tasks.load("choice", path=write(tmp_path / "choice.jsonl", rows))
    for index in range(4):
        problem = task.problem("heldout", index)
        assert problem["answer"] == "B"
        assert "B) green" in task.messages(**problem)[0]["content"]
        assert task.score("<think>a</think>\\boxed{green}", **problem).correct == 1.0
        assert task.score("<think>a</think>\\boxed{A}", **problem).answer == "A"
    assert tasks.check(task).ok


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"choices": ["x", "y"], "answer": 2}, "not among the choices 0 to 1"),
        ({"choices": ["x", "y"], "answer": "z"}, "none of the choices"),
        ({"choices": ["x"], "answer": 0}, "2 to 10 choices"),
        ({"answer": 0}, "no choices: there is no column"),
        ({"choices": ["x", "y"]}, "no answer"),
    ],
)
def test_bad_choices_are_named(tmp_path: Path, row: dict, words: str) -> None:
    path = write(tmp_path / "choice.jsonl", [{"question": "q", **row}])
    with pytest.raises(DataError, match=words):
        tasks.load("choice", path=path)


def test_gsm8k_without_its_mark_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "g.jsonl", [{"question": "q", "answer": "so 5"}])
    with pytest.raises(DataError, match='nothing stands behind "####"'):
        tasks.load("gsm8k", path=path)


def test_the_real_gsm8k() -> None:
    if not GSM8K.exists():
        pytest.skip("shared/data/gsm8k is not beside the checkout")
    task = tasks.load("gsm8k", path=str(GSM8K / "train.jsonl"), heldout_path=str(GSM8K / "test.jsonl"))
    assert (task.size("train"), task.size("heldout")) == (7473, 1319)
    problems = [task.problem("heldout", i) for i in range(1319)]
    assert all(s.correct == 1.0 for s in task.score_many([(task.gold(**p), p) for p in problems]))
    assert tasks.check(task).ok


@pytest.mark.parametrize(("language", "share"), [("pt", 1.0), ("es", 0.0), ("zh", 0.0)])
def test_a_file_that_knows_its_language_scores_the_thinking_in_it(
    sums: str, language: str, share: float
) -> None:
    task = tasks.load("jsonl", path=sums, columns=COLUMNS, verifier="numeric", language=language)
    thinking = "Primeiro somo os dois números e depois escrevo o resultado."
    score = task.score(f"<think>{thinking}</think><answer>6</answer>", question="What is 5 + 1?", answer="6")
    assert score.correct == 1.0 and score.parts["language"] == pytest.approx(share, abs=0.2)
    assert task.score("<answer>6</answer>", question="?", answer="6").parts["language"] == 0.0


def test_a_reward_of_the_users_own_may_look_anywhere(sums: str) -> None:
    """So no form says when it is decided."""
    settings = {"path": sums, "columns": COLUMNS}
    named = tasks.load("jsonl", **settings, verifier="numeric")
    assert named.form(**named.problem("train", 0)) == "tags"
    own = tasks.load("jsonl", **settings, verifier=f"{HERE}/rewards.py:long_enough")
    assert own.form(**own.problem("train", 0)) is None
