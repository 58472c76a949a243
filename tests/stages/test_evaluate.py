"""Evaluations: every number by hand, every kind of failure apart, the same questions every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from farthing.engine.api import Completion, Request
from farthing.engine.engine import Engine
from farthing.models.arithmetic import forward_flops
from farthing.models.decoder import Decoder
from farthing.rollout.types import Group
from farthing.stages.evaluate import Plan, ask, spent, verdict
from farthing.tasks.task import Taskset
from farthing.text.tokenizer import Tokenizer

MakeGroup = Callable[..., Group]


def test_numbers_by_hand(group_of: MakeGroup) -> None:
    """Two problems of two samples; the first has four for the vote, of which pass@1 takes the first two."""
    voted = group_of(
        [1.0, 0.0, 1.0, 1.0],
        answers=["7", "8", "7", "9"],
        lengths=[4, 6, 50, 50],
        reasons=["stop", "length", "stop", "stop"],
    )
    other = group_of([None, 0.0], answers=[None, None], lengths=[10, 20])
    result = verdict("countdown", [voted, other], Plan(2, 2, 1, 4))
    assert result["task"] == "countdown" and (result["n"], result["samples"]) == (2, 2)
    assert result["pass@1"] == pytest.approx(0.25)
    low, high = result["pass@1_interval"]
    assert 0.0 <= low <= 0.25 <= high <= 0.5
    assert result["mean_length"] == pytest.approx((4 + 6 + 10 + 20) / 4)
    assert result["truncated"] == pytest.approx(1 / 4)
    assert result["unscorable"] == pytest.approx(1 / 4), "not counted as unparsable too"
    assert result["unparsable"] == pytest.approx(1 / 4)
    assert (result["vote_n"], result["pass@4"], result["cons@4"]) == (1, 1.0, 1.0)
    assert result["prompt_ids"] == [90, 91, 92]
    assert "pass@2" not in result


def test_a_truncated_answer_is_not_called_unparsable(group_of: MakeGroup) -> None:
    result = verdict(
        "t", [group_of([0.0, 0.0], answers=[None, None], reasons=["length", "stop"])], Plan(1, 2)
    )
    assert (result["truncated"], result["unparsable"]) == (0.5, 0.5)


def test_no_votes_without_problems_for_them(group_of: MakeGroup) -> None:
    result = verdict("t", [group_of([1.0, 0.0])], Plan(1, 2))
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


def asked_of(tokenizer: Tokenizer, task: Taskset, plan: Plan) -> tuple[list[Request], list[Group]]:
    assert tokenizer.eos_id is not None
    recorder = Recorder(tokenizer.eos_id)
    groups = ask(recorder, tokenizer, task, plan)
    return recorder.asked, groups


def test_the_first_problems_are_asked_more_often(tokenizer: Tokenizer, task: Taskset) -> None:
    requests, groups = asked_of(tokenizer, task, Plan(5, 2, 2, 6, temperature=0.7, max_new_tokens=33, seed=4))
    assert [len(group.rollouts) for group in groups] == [6, 6, 2, 2, 2]
    assert [group.prompt.problem for group in groups] == [
        task.problem("heldout", index) for index in range(5)
    ]
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
    assert [len(group.rollouts) for group in groups] == [4, 4, 4]
    assert groups[2].prompt.problem == task.problem("train", 2)
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


def test_what_an_evaluation_costs(fresh_model: Callable[[], Decoder], group_of: MakeGroup) -> None:
    """Every prompt once, every completion token once."""
    model = fresh_model()
    groups = [group_of([1.0, 0.0], lengths=[10, 20]), group_of([1.0], lengths=[30], prompt_tokens=5)]
    tokens, flops = spent(model, groups)
    assert tokens == 3 + 5 + 60
    assert flops == forward_flops(model.config, tokens, 20 + 4)
