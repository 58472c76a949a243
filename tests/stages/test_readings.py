"""What is read off a step: means by hand, and a time split that adds up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from farthing.cost.entries import Entry
from farthing.rollout.types import Group
from farthing.stages.readings import Clock, group_record, note_waste, rollout_metrics


def test_rollout_metrics_by_hand(group_of: Callable[..., Group]) -> None:
    groups = [
        group_of([1.0, 0.0], lengths=[3, 5], answers=["a", None], reasons=["stop", "length"]),
        group_of([None, 0.5, 0.5], lengths=[7, 9, 11], answers=[None, None, "b"]),
        group_of([None], lengths=[1]),
    ]
    metrics = rollout_metrics(groups)
    assert metrics["reward"] == metrics["pass_rate"] == pytest.approx(0.5)
    assert metrics["reward_std"] == pytest.approx(0.25), "the mean of 0.5 and 0; one score is no spread"
    assert metrics["completions/mean_length"] == pytest.approx(6.0)
    assert metrics["completions/max_length"] == 11.0
    assert metrics["completions/clipped_ratio"] == pytest.approx(1 / 6)
    assert metrics["completions/unscorable_ratio"] == pytest.approx(2 / 6)
    assert metrics["rewards/format"] == 1.0
    assert metrics["rewards/accuracy"] == pytest.approx(0.5), "over those that could be scored"


def test_unparsable_means_what_it_means_in_an_evaluation(group_of: Callable[..., Group]) -> None:
    """Neither cut off nor impossible to score: one word, one meaning."""
    group = group_of(
        [0.0, 0.0, None, 1.0], answers=[None, None, None, "a"], reasons=["stop", "length", "stop", "stop"]
    )
    assert rollout_metrics([group])["completions/unparsable_ratio"] == pytest.approx(1 / 4)


def test_samples_that_were_ended_for_their_form_are_told_apart(group_of: Callable[..., Group]) -> None:
    """They are not cut off, have an answer, and did not come to their own end."""
    reasons = ["broken", "stop", "length", "broken"]
    metrics = rollout_metrics([group_of([1.0, 0.0, 0.0, 0.5], lengths=[2, 4, 9, 3], reasons=reasons)])
    assert metrics["completions/broken_ratio"] == 0.5
    assert metrics["completions/clipped_ratio"] == 0.25
    assert metrics["completions/unparsable_ratio"] == 0.0
    assert metrics["completions/mean_terminated_length"] == 4.0


def test_nothing_could_be_scored(group_of: Callable[..., Group]) -> None:
    metrics = rollout_metrics([group_of([None, None])])
    assert metrics["reward"] == metrics["reward_std"] == metrics["pass_rate"] == 0.0
    assert metrics["completions/unscorable_ratio"] == 1.0


def test_laps_add_up() -> None:
    clock = Clock()
    clock.lap("generate")
    clock.lap("train")
    metrics = clock.metrics()
    split = [value for name, value in metrics.items() if name.startswith("time/")]
    assert set(metrics) == {"step_time", "time/generate", "time/train", "time/other"}
    assert sum(split) == pytest.approx(metrics["step_time"], abs=1e-9)
    assert min(split) >= 0


def test_a_group_for_reading(group_of: Callable[..., Group]) -> None:
    record = group_record(group_of([1.0, None], answers=["7", None]), [0.5, 0.0])
    assert json.loads(json.dumps(record)) == record
    assert (record["problem"], record["prompt"]) == ({"numbers": [1, 2]}, "asked")
    assert record["samples"][0] == {
        "text": "text 0",
        "reward": 1.0,
        "advantage": 0.5,
        "correct": 1.0,
        "parts": {"accuracy": 1.0, "format": 1.0},
        "answer": "7",
        "error": None,
        "finish_reason": "stop",
        "tokens": 4,
    }
    assert record["samples"][1]["error"] == "timed out" and record["samples"][1]["reward"] is None


def test_waste_is_the_share_of_tokens_that_taught_nothing(group_of: Callable[..., Group]) -> None:
    """A dead group is wasted once, also where its samples were cut off; of living groups, what was cut off."""
    dead = group_of([0.0, 0.0], lengths=[10, 20], reasons=["length", "stop"])
    alive = group_of([1.0, 0.0], lengths=[30, 40], reasons=["stop", "length"])
    entry = Entry(1, "grpo", "generate", 0, wall_s=2.0)
    note_waste(entry, [dead, alive])
    assert entry.waste == {"dead_groups": pytest.approx(0.6), "truncated": pytest.approx(0.8)}
    clean = Entry(1, "grpo", "generate", 0, wall_s=2.0)
    note_waste(clean, [group_of([1.0, 0.0])])
    assert clean.waste == {}


def test_several_tasksets_are_told_apart(group_of: Callable[..., Group]) -> None:
    groups = [
        replace(group, prompt=replace(group.prompt, problem={"taskset": name, "problem": {}}))
        for name, group in (
            ("a", group_of([1.0, 0.0])),
            ("b", group_of([1.0, 1.0])),
            ("a", group_of([1.0, 1.0])),
        )
    ]
    metrics = rollout_metrics(groups)
    assert (metrics["pass_rate/a"], metrics["pass_rate/b"]) == (pytest.approx(0.75), 1.0)


def test_the_form_of_samples_by_hand(group_of: Callable[..., Group]) -> None:
    group = group_of([1.0, 1.0, 0.0, 0.0], lengths=[2, 4, 6, 100], reasons=["stop", "stop", "stop", "length"])
    thought = "<think>{}</think><answer>x</answer>"
    texts = [
        thought.format("it is so"),
        thought.format(" "),
        thought.format(""),
        "wait 等一下 再想想 once more",
    ]
    rollouts = tuple(replace(one, text=text) for one, text in zip(group.rollouts, texts, strict=True))
    wrong = replace(rollouts[2], score=replace(rollouts[2].score, parts={"format": 0.0}))
    metrics = rollout_metrics([replace(group, rollouts=(*rollouts[:2], wrong, rollouts[3]))])
    assert metrics["completions/mean_terminated_length"] == 4.0
    assert metrics["completions/flagged_ratio"] == 0.5, "of the right ones"
    assert metrics["completions/language_mix"] == 0.25
    assert metrics["completions/format_error_ratio"] == 0.25
