"""The careless student of word problems: mostly the right form, sometimes the right answer, in whatever language."""

from __future__ import annotations

import statistics

import pytest

from farthing.data.sources import load_source
from farthing.data.stories_student import StoriesStudent
from farthing.tasks.task import Score

TASK = {"max_number": 9, "steps": [1, 2]}


def scores(student: StoriesStudent, documents: int = 300) -> list[Score]:
    problems = [student.taskset.problem("train", index) for index in range(documents)]
    return [
        student.taskset.score(student.document(index)[1], **problem) for index, problem in enumerate(problems)
    ]


def test_a_document_is_a_function_of_settings_and_index() -> None:
    student = load_source(
        {"source": "stories_student", "care": 0.4}, {"words": {"name": "stories", **TASK}}, 3
    )
    assert [student.document(i) for i in (7, 3)] == [
        StoriesStudent(3, TASK, care=0.4).document(i) for i in (7, 3)
    ]
    assert StoriesStudent(4, TASK).document(7) != StoriesStudent(3, TASK).document(7)


def test_every_document_has_the_form() -> None:
    assert all(score.parts["format"] == 1.0 for score in scores(StoriesStudent(0, TASK)))


@pytest.mark.parametrize(("care", "low", "high"), [(0.0, 0.0, 0.15), (0.4, 0.2, 0.45), (1.0, 0.99, 1.0)])
def test_care_is_how_often_it_is_right(care: float, low: float, high: float) -> None:
    """300 documents; the edges are more than five standard errors away, and the seed is fixed."""
    student = StoriesStudent(0, TASK, care=care, slip=0.0, hasty=0.0)
    assert low <= statistics.fmean(score.correct or 0.0 for score in scores(student)) <= high


def test_stray_is_how_often_a_sentence_is_in_another_language() -> None:
    faithful = scores(StoriesStudent(0, TASK, stray_most=0.0), 100)
    assert statistics.fmean(score.parts["language"] for score in faithful) > 0.9
    abroad = scores(StoriesStudent(0, TASK, stray_least=1.0, stray_most=1.0), 100)
    assert statistics.fmean(score.parts["language"] for score in abroad) < 0.1


def test_three_steps_and_one_language_work_too() -> None:
    student = StoriesStudent(0, {"steps": [3], "languages": ["zh"]}, care=0.0)
    assert all(student.document(index)[1].endswith("</answer>") for index in range(50))
