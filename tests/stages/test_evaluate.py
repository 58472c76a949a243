"""Evaluations: every number by hand, every kind of failure apart, the same questions every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing.engine.api import Completion, Request
from farthing.engine.engine import Engine
from farthing.models.arithmetic import forward_flops
from farthing.models.decoder import Decoder
from farthing.rollout.types import Group
from farthing.stages.evaluate import Journal, ask, asked, chunks, spent
from farthing.stages.evidence import Asked, Plan, verdict
from farthing.tasks.task import Taskset
from farthing.text.tokenizer import Tokenizer

MakeGroup = Callable[..., Group]


def told(tokenizer: Tokenizer, groups: Sequence[Group], plan: Plan) -> dict[str, Any]:
    return verdict("countdown", [asked(group, tokenizer) for group in groups], plan)


def test_numbers_by_hand(group_of: MakeGroup, tokenizer: Tokenizer) -> None:
    """Two problems of two samples; the first has four for the vote, of which pass@1 takes the first two."""
    voted = group_of(
        [1.0, 0.0, 1.0, 1.0],
        answers=["7", "8", "7", "9"],
        lengths=[4, 6, 50, 50],
        reasons=["stop", "length", "stop", "stop"],
    )
    other = group_of([None, 0.0], answers=[None, None], lengths=[10, 20])
    result = told(tokenizer, [voted, other], Plan(2, 2, 1, 4))
    assert result["task"] == "countdown" and (result["n"], result["samples"]) == (2, 2)
    assert result["pass@1"] == pytest.approx(0.25)
    low, high = result["pass@1_interval"]
    assert 0.0 <= low < 0.25 < high < 0.9
    assert result["mean_length"] == pytest.approx((4 + 6 + 10 + 20) / 4)
    assert result["truncated"] == pytest.approx(1 / 4)
    assert result["unscorable"] == pytest.approx(1 / 4), "not counted as unparsable too"
    assert result["unparsable"] == pytest.approx(1 / 4)
    assert result["wrong"] == 0.0, "the one that is not right was cut off"
    assert (result["vote_n"], result["pass@4"], result["cons@4"]) == (1, 1.0, 1.0)
    assert result["prompt_ids"] == [90, 91, 92]
    assert "pass@2" not in result


def test_what_went_wrong_is_told_apart(group_of: MakeGroup, tokenizer: Tokenizer) -> None:
    """Right, wrong, cut off, without an answer and impossible to score: each counted once."""
    group = group_of(
        [1.0, 0.0, 0.0, 0.0, None],
        answers=["7", "8", None, None, None],
        reasons=["stop", "stop", "length", "stop", "stop"],
    )
    result = told(tokenizer, [group], Plan(1, 5))
    shares = [result[name] for name in ("pass@1", "wrong", "truncated", "unparsable", "unscorable")]
    assert shares == pytest.approx([0.2] * 5)


def test_language_and_thinking_where_they_are_known(group_of: MakeGroup, tokenizer: Tokenizer) -> None:
    """The mean share of the language over problems with its interval, and the length of the thinking in tokens."""
    group = group_of([1.0, 1.0])
    assert "language" not in told(tokenizer, [group], Plan(1, 2))
    texts = ("<think>3+5=8</think><answer>3+5</answer>", "<answer>3+5</answer>")
    rollouts = tuple(
        replace(rollout, text=text, score=replace(rollout.score, parts={"language": share}))
        for rollout, text, share in zip(group.rollouts, texts, (1.0, 0.0), strict=True)
    )
    result = told(tokenizer, [replace(group, rollouts=rollouts)], Plan(1, 2))
    assert result["language"] == 0.5
    assert result["language_interval"][0] < 0.5 < result["language_interval"][1]
    assert result["thinking_length"] == len(tokenizer.encode("3+5=8")), "of those that thought"


def test_no_votes_without_problems_for_them(group_of: MakeGroup, tokenizer: Tokenizer) -> None:
    result = told(tokenizer, [group_of([1.0, 0.0])], Plan(1, 2))
    assert not [name for name in result if name.startswith(("cons@", "vote")) or name == "pass@2"]


@pytest.mark.parametrize(
    ("size", "expected"), [(None, (500, 128)), (600, (500, 128)), (200, (200, 128)), (30, (30, 30))]
)
def test_a_plan_asks_no_more_than_there_is(size: int | None, expected: tuple[int, int]) -> None:
    plan = Plan(500, 4, 128, 16, seed=3).within(size)
    assert (plan.problems, plan.vote_problems) == expected
    assert (plan.samples, plan.vote_samples, plan.seed) == (4, 16, 3)


class Recorder:
    """A generator that ends every turn at once and remembers what it was asked."""

    def __init__(self, eos: int) -> None:
        self.asked: list[Request] = []
        self.eos = eos

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        return [Completion(r.request_id, [self.eos], [0.0], [0.0], "stop", 0) for r in requests]


def asked_of(tokenizer: Tokenizer, task: Taskset, plan: Plan) -> tuple[list[Request], list[Asked]]:
    assert tokenizer.eos_id is not None
    recorder = Recorder(tokenizer.eos_id)
    groups = ask(recorder, tokenizer, task, plan)
    return recorder.asked, groups


def test_the_first_problems_are_asked_more_often(tokenizer: Tokenizer, task: Taskset) -> None:
    requests, groups = asked_of(tokenizer, task, Plan(5, 2, 2, 6, temperature=0.7, max_new_tokens=33, seed=4))
    assert [len(one.answers) for one in groups] == [6, 6, 2, 2, 2]
    assert [one.problem for one in groups] == [task.problem("heldout", index) for index in range(5)]
    assert len({request.params.seed for request in requests}) == len(requests) == 18
    assert {(r.params.temperature, r.params.max_new_tokens) for r in requests} == {(0.7, 33)}
    assert {r.params.stop_token_ids for r in requests} == {(tokenizer.eos_id,)}
    again, _ = asked_of(tokenizer, task, Plan(5, 2, 2, 6, temperature=0.7, max_new_tokens=33, seed=4))
    assert again == requests
    other, _ = asked_of(tokenizer, task, Plan(5, 2, 2, 6, temperature=0.7, max_new_tokens=33, seed=5))
    assert [r.prompt_ids for r in other] == [r.prompt_ids for r in requests]
    assert not {r.params.seed for r in other} & {r.params.seed for r in requests}


def test_more_votes_than_problems(tokenizer: Tokenizer, task: Taskset) -> None:
    """The split that is asked for, and pass@1 only of the problems that were planned for it."""
    _requests, groups = asked_of(tokenizer, task, Plan(1, 2, 3, 4, split="train"))
    assert [len(one.answers) for one in groups] == [4, 4, 4]
    assert groups[2].problem == task.problem("train", 2)
    assert verdict("t", groups, Plan(1, 2, 3, 4))["n"] == 1


def test_the_same_evaluation_twice_is_the_same(
    fresh_model: Callable[[], Decoder], tokenizer: Tokenizer, task: Taskset
) -> None:
    plan = Plan(4, 2, 2, 3, max_new_tokens=20, seed=1)
    results: list[dict[str, Any]] = []
    for settings in ({}, {"max_running": 3}):
        engine = Engine(fresh_model(), tokenizer, **settings)  # type: ignore[arg-type]
        results.append(verdict("countdown", ask(engine, tokenizer, task, plan), plan))
    assert results[0] == results[1]


def test_what_an_evaluation_costs(
    fresh_model: Callable[[], Decoder], group_of: MakeGroup, tokenizer: Tokenizer
) -> None:
    """Every prompt once, every completion token once."""
    model = fresh_model()
    groups = [group_of([1.0, 0.0], lengths=[10, 20]), group_of([1.0], lengths=[30], prompt_tokens=5)]
    tokens, flops = spent(model, [asked(group, tokenizer) for group in groups])
    assert tokens == 3 + 5 + 60
    assert flops == forward_flops(model.config, tokens, 20 + 4)


def test_chunks_are_whole_and_of_the_plan_alone() -> None:
    plan = Plan(300, 4, 100, 16)
    parts = list(chunks(plan))
    assert [index for part in parts for index in part] == list(range(300))
    assert [sum(plan.samples_of(index) for index in part) for part in parts[:-1]] == [1024, 1024]


def test_a_chunk_asks_what_the_whole_asks(tokenizer: Tokenizer, task: Taskset) -> None:
    plan = Plan(5, 2, 2, 6, seed=4)
    whole, _ = asked_of(tokenizer, task, plan)
    assert tokenizer.eos_id is not None
    recorder = Recorder(tokenizer.eos_id)
    for part in (range(3), range(3, 5)):
        ask(recorder, tokenizer, task, plan, part)
    assert [request.params for request in recorder.asked] == [request.params for request in whole]


def test_a_journal_gives_back_what_it_was_told(
    tmp_path: Path, group_of: MakeGroup, tokenizer: Tokenizer
) -> None:
    """Also when the last line was torn, as a kill in the middle of a write leaves it."""
    kept = [asked(group_of([1.0, None]), tokenizer), asked(group_of([0.0]), tokenizer)]
    journal = Journal(tmp_path / "answers.jsonl")
    journal.append(("base", "words"), kept)
    journal.append(("final", "words"), kept[:1])
    journal.close()
    again = Journal(tmp_path / "answers.jsonl")
    again.close()
    assert (again.known(("base", "words")), again.known(("final", "words"))) == (kept, kept[:1])
    assert again.known(("base", "sums")) == []
    file = tmp_path / "answers.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    assert Journal(file).known(("final", "words")) == []
