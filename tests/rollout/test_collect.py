"""Driving a task against a generator: prompts, seeds, verdicts. The generator and the task are doubles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from farthing.data.sources import as_text
from farthing.engine.api import Completion, Request, SamplingParams
from farthing.rollout.collect import assistant_turn, judge, make_prompt, request_seed, reward_of, sample
from farthing.rollout.types import Prompt
from farthing.tasks import load
from farthing.tasks.task import Score
from farthing.text import bpe
from farthing.text.tokenizer import Tokenizer

TASK = load("countdown")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [as_text("Use 3, 5 and 8 to make 24.", "<think>3*8=24</think><answer>3*8</answer>")] * 4
    return bpe.train(texts, 300, 2)


class Echo:
    """A generator that answers with a fixed text and remembers what it was asked."""

    def __init__(self, tokenizer: Tokenizer, text: str, finish_reason: Any = "stop") -> None:
        self.ids = tokenizer.encode(text, special=True)
        self.asked: list[Request] = []
        self.finish_reason = finish_reason

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        zeros = [0.0] * len(self.ids)
        return [Completion(r.request_id, self.ids, zeros, zeros, self.finish_reason, 0) for r in requests]


def prompts_of(tokenizer: Tokenizer, count: int) -> list[Prompt]:
    return [make_prompt(tokenizer, TASK, TASK.problem("train", index)) for index in range(count)]


def test_a_prompt_ends_where_the_model_begins(tokenizer: Tokenizer) -> None:
    problem = {"numbers": [3, 5, 8], "target": 24}
    prompt = make_prompt(tokenizer, TASK, problem)
    assert prompt.problem == problem and prompt.prefill == ""
    assert prompt.text == "<|user|>Use 3, 5 and 8 to make 24.<|assistant|>"
    assert tokenizer.decode(list(prompt.token_ids)) == prompt.text


@pytest.mark.parametrize("opening", ["<think>", "<think>\n", "<think>\n\n</think>\n\n"])
def test_what_the_template_begins_belongs_to_the_turn(tokenizer: Tokenizer, opening: str) -> None:
    """A template that opens the thought, as R1's does, or closes it at once, as Qwen3's may; the verdict counts it."""
    source = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}"
        "{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>" + opening.replace("\n", "\\n") + "' }}{% endif %}"
    )
    other = Tokenizer(tokenizer.definition, {**tokenizer.config, "chat_template": source})
    problem = {"numbers": [3, 5, 8], "target": 24}
    prompt = make_prompt(other, TASK, problem)
    assert prompt.prefill == opening
    rest = "3*8</think><answer>3*8*5</answer>" if "</think>" not in opening else "<answer>(8*3)*5</answer>"
    generator = Echo(other, rest + "<|end|>")
    (group,) = judge(
        other, [prompt], [generator.generate([Request(prompt.token_ids)])], TASK.score_many, {"format": 1.0}
    )
    assert group.rollouts[0].text == opening + rest
    assert group.rollouts[0].reward == 1.0


def test_seeds_are_named_and_never_meet(tokenizer: Tokenizer) -> None:
    """The k-th sample of prompt i has a seed of its own, which depends on nothing else in the batch."""
    params = SamplingParams(max_new_tokens=9, temperature=0.7, top_k=3, top_p=0.9, stop_token_ids=(1, 2))
    prompts, generator = prompts_of(tokenizer, 3), Echo(tokenizer, "x")
    found = sample(generator, prompts, 4, params, (0, "grpo", 7))
    assert [len(own) for own in found] == [4, 4, 4]
    assert [request.prompt_ids for request in generator.asked] == [
        p.token_ids for p in prompts for _ in range(4)
    ]
    seeds = [request.params.seed for request in generator.asked]
    assert seeds == [request_seed(0, "grpo", 7, index, k) for index in range(3) for k in range(4)]
    assert all(SamplingParams(**{**vars(r.params), "seed": 0}) == params for r in generator.asked)
    fewer = Echo(tokenizer, "x")
    sample(fewer, prompts[:2], 2, params, (0, "grpo", 7))
    assert [r.params.seed for r in fewer.asked] == [seeds[0], seeds[1], seeds[4], seeds[5]]
    many = {
        request_seed(seed, "grpo", step, i, k)
        for seed in (0, 1)
        for step in range(9)
        for i in range(9)
        for k in range(9)
    }
    assert len(many) == 2 * 9**3


def test_a_seed_is_the_same_on_every_machine() -> None:
    """Not Python's own hash, which changes from process to process."""
    assert request_seed(0, "grpo", 7, 1, 2) == request_seed("0", "grpo", "7", 1, 2) == 1972351287360532616
    assert 0 <= request_seed() < 2**64


def test_groups_keep_their_order(tokenizer: Tokenizer) -> None:
    """Verdicts find their way back to the sample they are about."""
    prompts = prompts_of(tokenizer, 2)
    texts = [["a", "b"], ["c"]]
    completions = [[Echo(tokenizer, t, "length").generate([Request((1,))])[0] for t in own] for own in texts]
    seen: list[tuple[str, Any]] = []

    def scorer(pairs: Sequence[tuple[str, Any]]) -> list[Score]:
        seen.extend(pairs)
        return [Score(float(ord(text[0]) - ord("a")), {"accuracy": ord(text[0]) / 10}) for text, _ in pairs]

    groups = judge(tokenizer, prompts, completions, scorer, {"accuracy": 2.0})
    assert [text for text, _ in seen] == ["a", "b", "c"], "one call for all"
    assert [problem for _, problem in seen] == [prompts[0].problem] * 2 + [prompts[1].problem]
    assert [[r.text for r in g.rollouts] for g in groups] == texts
    assert groups[1].rewards == [pytest.approx(2 * ord("c") / 10)]
    assert groups[0].rollouts[0].is_truncated and groups[0].rollouts[0].num_tokens == 1


def test_the_end_token_is_not_part_of_the_turn(tokenizer: Tokenizer) -> None:
    """Only where it was reached: a completion that ran out of room keeps every token."""
    prompt = prompts_of(tokenizer, 1)[0]
    for reason, ending in (("stop", ""), ("length", "<|end|>")):
        completion = Echo(tokenizer, "so<|end|>", reason).generate([Request((1,))])[0]
        assert assistant_turn(tokenizer, prompt, completion) == "so" + ending


def test_rewards_are_weighted_parts_and_none_is_none() -> None:
    weights = {"accuracy": 1.0, "format": 0.1, "language": 5.0}
    assert reward_of(Score(1.0, {"accuracy": 1.0, "format": 1.0}), weights) == pytest.approx(1.1)
    assert reward_of(Score(0.0, {"accuracy": 0.0, "format": 1.0, "unknown": 9.0}), weights) == pytest.approx(
        0.1
    )
    assert reward_of(Score(None, {"format": 1.0}, error="timed out"), weights) is None
