"""Samples as the page shows them: taken apart without loss, judged, and few enough."""

import json
from pathlib import Path
from typing import Any

import pytest

from farthing.report.gather import gather
from farthing.report.groups import (
    VERDICTS,
    at_step,
    blocks,
    browsable,
    listed,
    present,
    present_sample,
    problems,
    steps_with,
    title,
    verdict,
)
from farthing.report.reading import read_run


def sample(**changes: Any) -> dict[str, Any]:
    base = {"text": "<think>a</think><answer>1</answer>", "reward": 1.0, "advantage": 0.5, "correct": 1.0,
            "parts": {"accuracy": 1.0}, "answer": "1", "error": None, "finish_reason": "stop", "tokens": 9}  # fmt: skip
    return base | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "right"),
        ({"correct": 0.5}, "partial"),
        ({"correct": 0.0}, "wrong"),
        ({"correct": 0.0, "answer": None}, "unparsable"),
        ({"correct": 0.0, "answer": None, "finish_reason": "length"}, "truncated"),
        ({"correct": 0.0, "finish_reason": "length"}, "truncated"),
        ({"correct": 1.0, "finish_reason": "length"}, "right"),
        ({"correct": None, "error": "timeout"}, "unscored"),
        ({"correct": True}, "unscored"),
    ],
)
def test_verdicts_tell_the_kinds_of_failure_apart(changes: dict[str, Any], expected: str) -> None:
    assert verdict(sample(**changes)) == expected
    assert expected in VERDICTS


def test_text_is_split_by_the_one_parser_and_kept_to_the_letter() -> None:
    assert blocks("<think>\n 3+4 </think>\n<answer>7</answer>") == [
        ["thinking", "\n 3+4 ", True],
        ["text", "\n", True],
        ["answer", "7", True],
    ]
    assert blocks("<think>never ends") == [["thinking", "never ends", False]]
    assert blocks("") == []


def test_a_sample_may_lack_anything() -> None:
    bare = present_sample({}, {})
    assert (bare["verdict"], bare["blocks"], bare["reward"], bare["parts"]) == ("unscored", [], None, [])
    odd = present_sample(sample(answer=7, parts={"x": "y", "z": 1}, tokens="many", reward=None), {})
    assert (odd["answer"], odd["parts"], odd["tokens"]) == ("7", [["x", None], ["z", 1]], None)


def test_the_samples_of_the_file_are_the_samples_of_the_page(run_dir: Path) -> None:
    lines = (run_dir / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    groups = [json.loads(line) for line in lines]
    shown = gather(run_dir)["samples"]["groups"]
    assert [(g["stage"], g["step"], g["prompt"]) for g in shown] == [
        (g["stage"], g["step"], g["prompt"]) for g in groups
    ]
    for group, page in zip(groups, shown, strict=True):
        assert json.loads(page["problem"]) == group["problem"]
        for raw, one in zip(group["samples"], page["samples"], strict=True):
            for key in ("reward", "advantage", "answer", "error", "finish_reason", "tokens"):
                assert one[key] == raw[key]
            assert one["parts"] == [[name, value] for name, value in raw["parts"].items()]
            assert all(text in raw["text"] for _, text, _ in one["blocks"])


def test_many_samples_become_evenly_spaced_whole_steps(run_dir: Path) -> None:
    run = read_run(run_dir)
    few = browsable(run, max_bytes=20_000)
    steps = [group["step"] for group in few["groups"]]
    assert few["steps_total"] == 41
    assert 2 < few["steps_shown"] < 20
    assert (steps[0], steps[-1]) == (1, 240)
    assert all(steps.count(step) == 2 for step in steps)
    assert browsable(run)["steps_shown"] == 41


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ({"numbers": [3, 5, 7], "target": 8}, "numbers 3 5 7 · target 8"),
        ({"question": "How many?", "answer": "3"}, "How many?"),
        ({"grid": [[1], [2]]}, "grid [[1], [2]]"),
        ({}, ""),
    ],
)
def test_titles(problem: dict[str, Any], expected: str) -> None:
    assert title(problem) == expected


def write_groups(folder: Path, groups: list[tuple[int, dict[str, Any], list[float | None]]]) -> None:
    lines = [
        {"stage": "grpo", "step": step, "problem": problem, "prompt": "p",
         "samples": [sample(correct=value) for value in rates]}
        for step, problem, rates in groups
    ]  # fmt: skip
    (folder / "samples.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )


def test_problems_are_solved_learning_or_hopeless(tmp_path: Path) -> None:
    write_groups(tmp_path, [
        (1, {"n": 1}, [0.0, 1.0]), (5, {"n": 1}, [1.0, 1.0]),
        (1, {"n": 2}, [0.0, 0.0]), (5, {"n": 2}, [0.0, 0.0]), (9, {"n": 2}, [0.0, 0.0]),
        (1, {"n": 3}, [0.0, None]), (5, {"n": 3}, [1.0, 0.0]),
        (1, {"n": 4}, [None, None]),
    ])  # fmt: skip
    found = {row["title"]: (row["state"], row["points"]) for row in problems(read_run(tmp_path))["rows"]}
    assert found == {
        "n 2": ("hopeless", [[1, 0.0], [5, 0.0], [9, 0.0]]),
        "n 1": ("solved", [[1, 0.5], [5, 1.0]]),
        "n 3": ("learning", [[1, 0.0], [5, 0.5]]),
    }


@pytest.mark.parametrize("samples", [None, [], "x", 17, {"a": 1}, [1, None], [{"text": None}]])
def test_groups_of_any_shape_are_survived(tmp_path: Path, samples: Any) -> None:
    line = {"stage": "grpo", "step": 1, "problem": None, "prompt": None, "samples": samples}
    (tmp_path / "samples.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert gather(tmp_path)["samples"]["steps_total"] == 1


def test_every_step_is_named_for_a_page_that_can_ask_and_read_as_it_would_be_embedded(run_dir: Path) -> None:
    run = read_run(run_dir)
    embedded, named = browsable(run), listed(run)
    assert (named["groups"], len(named["steps"])) == ([], 41)
    apart = [at_step(run.groups, stage, step) for stage, step, _ in named["steps"]]
    assert [group for groups in apart for group in groups] == embedded["groups"]
    for (_, _, verdicts), groups in zip(named["steps"], apart, strict=True):
        marks = [
            [one["verdict"], *(name for name, _ in one["flags"])] for g in groups for one in g["samples"]
        ]
        assert set(verdicts) == {mark for one in marks for mark in one}


def test_a_rewarded_sample_shows_its_flags_with_what_they_mean() -> None:
    samples = [
        {"text": "<think></think><answer>1 + 1</answer>", "answer": "1+1", "correct": correct}
        for correct in (1.0, 0.0, None)
    ]
    shown = present({"stage": "grpo", "step": 1, "prompt": "make 2", "samples": samples})["samples"]
    meaning = "rewarded without a thought: the thinking is empty"
    assert [one["flags"] for one in shown] == [[["empty_thought", meaning]], [], []]


def test_steps_are_found_by_any_text_in_a_prompt_or_a_sample() -> None:
    groups = [
        {
            "stage": "grpo",
            "step": step,
            "prompt": f"ask {step}",
            "samples": [sample(text=f"Straße {step % 2}")],
        }
        for step in range(4)
    ]
    assert steps_with(groups, "ASK 2") == [["grpo", 2]]
    assert steps_with(groups, "STRASSE 1") == [["grpo", 1], ["grpo", 3]]
    assert steps_with(groups, "nothing") == []
    assert steps_with([{"samples": 3}, *groups[:1]], "ask") == [["grpo", 0]]
