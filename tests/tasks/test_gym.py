"""Datasets of reasoning-gym, where it is installed, and what a user reads where it is not."""

import importlib.util
import sys

import pytest

import farthing.tasks as tasks
from farthing.errors import TaskError
from farthing.tasks.tasksets import gym

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason='needs pip install "farthing[gym]"'
)


@needs_library
@pytest.mark.parametrize(
    ("name", "config"),
    [("leg_counting", {}), ("chain_sum", {"max_terms": 3})],
)
def test_the_check_passes(name: str, config: dict) -> None:
    report = tasks.check(tasks.load("gym", dataset=name, config=config), n=6)
    assert report.ok, report.failures


@needs_library
def test_problems_are_pure_and_follow_the_seed() -> None:
    first, again, other = (tasks.load("gym:chain_sum", seed=seed) for seed in (0, 0, 1))
    assert [first.problem("train", i) for i in range(200)] == [again.problem("train", i) for i in range(200)]
    assert first.problem("train", 0) != other.problem("train", 0)


@needs_library
def test_partial_marks_count_only_where_asked() -> None:
    problem = tasks.load("gym:chain_sum").problem("train", 0)
    completion = f"<think>a</think><answer>It is {problem['answer']}, I say</answer>"
    assert tasks.load("gym:chain_sum").score(completion, **problem).correct == 0.0
    graded = tasks.load("gym:chain_sum", graded=True).score(completion, **problem).correct
    assert graded is not None and 0.0 < graded < 1.0


@needs_library
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "chain_sums"}, 'did you mean "chain_sum"'),
        ({"dataset": "chain_sum", "config": {"no_such": 1}}, "refuses its config"),
        ({"dataset": "chain_sum", "config": {"min_terms": -5}}, "refuses its config"),
        ({"dataset": "chain_sum", "config": {"seed": 3}}, "leave it out"),
    ],
)
def test_bad_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        tasks.load("gym", **settings)


def test_a_missing_library_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    gym._chunk.cache_clear()
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(TaskError, match=r'pip install "farthing\[gym\]"'):
        tasks.load("gym", dataset="leg_counting")
