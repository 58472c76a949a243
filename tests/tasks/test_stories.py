"""Word problems: every text of every language against its skeleton, the split, the rewards."""

import string
from collections import Counter

import pytest

import farthing.tasks as tasks
from farthing.errors import TaskError
from farthing.tasks.tasksets.stories import is_held_out, skeletons, story_key, texts
from farthing.tasks.verifiers.language import LANGUAGES, consistency, identify

TASK = tasks.load("stories")
PROBLEMS = [TASK.problem("train", i) for i in range(400)]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_story_has_its_texts_and_they_say_all_the_numbers(language: str) -> None:
    words = texts(language)
    assert set(words["stories"]) == set(skeletons())
    for name, skeleton in skeletons().items():
        story = words["stories"][name]
        solved = {variable for variable, _ in skeleton.steps}
        hidden = {"left", "j", "q", "e", "x", "c", "h", "n"}
        drawn = {variable for variable, _, _ in skeleton.draw}
        given = {variable for variable, _ in skeleton.given}
        assert len(story["steps"]) == len(skeleton.steps)
        for ask in story["ask"]:
            assert not fields(ask) & solved, f"{language} {name} tells its own answer"
            assert given <= fields(ask), f"{language} {name} keeps a number to itself"
            assert drawn - hidden <= fields(ask) or not given
            if not given:
                assert drawn <= fields(ask), f"{language} {name} keeps a number to itself"
        for (variable, _), sentence in zip(skeleton.steps, story["steps"], strict=True):
            assert variable in fields(sentence)
    assert len({len(words["stories"][name]["ask"]) for name in words["stories"]}) == 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", sorted(skeletons()))
def test_the_numbers_in_a_question_determine_its_answer(language: str, name: str) -> None:
    """The same question is never asked with two answers: what is hidden can be worked out from what is
    shown."""
    task = tasks.load("stories", languages=[language], themes=[skeletons()[name].theme], max_number=5)
    answers: dict[str, int] = {}
    for index in range(400):
        problem = task.problem("train", index)
        if problem["story"] == name:
            question = task.messages(**problem)[0]["content"]
            assert answers.setdefault(question, task.answer(**problem)) == task.answer(**problem)
    assert answers


def test_problems_are_pure_keep_their_split_and_cover_everything() -> None:
    again = tasks.load("stories")
    assert [again.problem("train", i) for i in range(50)] == PROBLEMS[:50]
    assert not any(is_held_out(p["story"], p["numbers"]) for p in PROBLEMS)
    held = [TASK.problem("heldout", i) for i in range(200)]
    assert all(is_held_out(p["story"], p["numbers"]) for p in held)
    assert {p["story"] for p in PROBLEMS} == set(skeletons())
    assert min(Counter(p["language"] for p in PROBLEMS).values()) > 60
    assert min(Counter(p["wording"] for p in PROBLEMS).values()) > 120
    assert all(TASK.answer(**p) > 0 for p in PROBLEMS)


def test_the_key_is_the_story_and_its_numbers_in_any_language() -> None:
    assert story_key("shop_change", {"p": 7, "n": 3, "c": 4}) == "shop_change:c=4,n=3,p=7"
    problem = PROBLEMS[0]
    assert TASK.key(**problem) == TASK.key(**{**problem, "language": "zh", "cast": {}})


def test_gold_answers_are_accepted_and_written_in_the_questions_language() -> None:
    for problem in PROBLEMS:
        score = TASK.score(TASK.gold(**problem), **problem)
        assert (score.correct, score.parts) == (1.0, {"accuracy": 1.0, "format": 1.0, "language": 1.0})
        assert identify(TASK.messages(**problem)[0]["content"]) == problem["language"]


def test_thinking_in_another_language_costs_only_the_language_part() -> None:
    english = next(p for p in PROBLEMS if p["language"] == "en")
    solution = " ".join(TASK.solution(**english))
    asked_in_chinese = {**english, "language": "zh"}
    score = TASK.score(
        f"<think>{solution}</think><answer>{TASK.answer(**english)}</answer>", **asked_in_chinese
    )
    assert (score.correct, score.parts["format"], score.parts["language"]) == (1.0, 1.0, 0.0)
    wordless = TASK.score(f"<think>3 * 4 = 12</think><answer>{TASK.answer(**english)}</answer>", **english)
    assert wordless.parts["language"] == 0.0


def test_answers_may_carry_their_unit() -> None:
    problem = next(p for p in PROBLEMS if p["language"] == "pt" and p["story"] == "shop_total")
    answer = TASK.answer(**problem)
    for text in (f"{answer} reais", f"R$ {answer},00", f"{answer}."):
        assert TASK.score(f"<think>o custo</think><answer>{text}</answer>", **problem).correct == 1.0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_dials(steps: int) -> None:
    task = tasks.load(
        "stories", steps=[steps], languages=["es"], themes=["shifts"], max_number=10, prompt="full"
    )
    problems = [task.problem("train", i) for i in range(40)]
    assert all(len(task.solution(**p)) == steps and p["language"] == "es" for p in problems)
    text = task.messages(**problems[0])[0]["content"]
    assert "<answer>" in text and consistency(text, "es") > 0.9


@pytest.mark.parametrize(
    "settings",
    [{"languages": ["fr"]}, {"languages": []}, {"steps": [4]}, {"max_number": 2}, {"langauges": ["en"]}],
)
def test_bad_settings_are_refused_in_one_line(settings: dict) -> None:
    with pytest.raises(TaskError) as caught:
        tasks.load("stories", **settings)
    assert "\n" not in str(caught.value)
