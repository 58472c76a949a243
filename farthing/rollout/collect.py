"""Driving tasks against a generator: problems to prompts, prompts to completions, completions to verdicts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from farthing.engine.api import Completion, Generator, Request, SamplingParams
from farthing.rollout.types import Group, Prompt, Rollout
from farthing.tasks.task import Problem, Score, Taskset
from farthing.text.chat import as_prompt
from farthing.text.tokenizer import Tokenizer

MAX_CHARACTERS = 1_000_000
"""A longer turn is shown to no verifier: it could not be scored."""

Scorer = Callable[[Sequence[tuple[str, Problem]]], list[Score]]


def make_prompt(tokenizer: Tokenizer, taskset: Taskset, problem: Problem) -> Prompt:
    """A problem as the model will read it, up to and including the opening of its own turn."""
    rendered = as_prompt(tokenizer, taskset.messages(**problem))
    return Prompt(problem, tuple(rendered.ids), rendered.text, rendered.prefill)


def request_seed(*parts: object) -> int:
    """A 64-bit seed that depends on nothing but what is named."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def sample(
    generator: Generator,
    prompts: Sequence[Prompt],
    samples: int | Sequence[int],
    params: SamplingParams,
    seed: Sequence[object],
    first: int = 0,
    states: Sequence[int] = (),
) -> list[list[Completion]]:
    """`samples` completions of each prompt, or as many as the list says; the k-th of prompt i, counted from `first`,
    draws with a seed named by (seed, i, k). `states`: where those of each prompt begin in the generator's automaton."""
    counts = [samples] * len(prompts) if isinstance(samples, int) else samples
    requests = []
    for index, (prompt, count) in enumerate(zip(prompts, counts, strict=True), first):
        state = states[index - first] if states else 0
        for k in range(count):
            own = replace(params, seed=request_seed(*seed, index, k))
            requests.append(Request(prompt.token_ids, own, f"{index}/{k}", state=state))
    completions = iter(generator.generate(requests))
    return [[next(completions) for _ in range(count)] for count in counts]


def judge(
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[Completion]],
    scorer: Scorer,
    weights: Mapping[str, float],
) -> list[Group]:
    """Verdicts on all completions at once; the reward is the weighted sum of the score's parts."""
    texts = [
        [assistant_turn(tokenizer, prompt, c) for c in own]
        for prompt, own in zip(prompts, completions, strict=True)
    ]
    pairs = [(text, prompt.problem) for prompt, own in zip(prompts, texts, strict=True) for text in own]
    scores = iter(_scored(scorer, pairs))
    groups = []
    for prompt, own_texts, own in zip(prompts, texts, completions, strict=True):
        rollouts = []
        for text, completion in zip(own_texts, own, strict=True):
            score = next(scores)
            rollouts.append(Rollout(completion, text, score, reward_of(score, weights)))
        groups.append(Group(prompt, tuple(rollouts)))
    return groups


def _scored(scorer: Scorer, pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
    """The scorer's verdicts, in order; it is not asked about texts that would take it too long to read."""
    readable = [pair for pair in pairs if len(pair[0]) <= MAX_CHARACTERS]
    verdicts = iter(scorer(readable))
    return [
        next(verdicts)
        if len(text) <= MAX_CHARACTERS
        else Score(None, error=f"too large: {len(text)} characters, more than {MAX_CHARACTERS}")
        for text, _ in pairs
    ]


def assistant_turn(tokenizer: Tokenizer, prompt: Prompt, completion: Completion) -> str:
    """What the assistant wrote, with what the template had written for it, without the token that ended it."""
    ids = completion.token_ids
    if completion.finish_reason == "stop":
        ids = ids[:-1]
    return prompt.prefill + tokenizer.decode(ids)


def reward_of(score: Score, weights: Mapping[str, float]) -> float | None:
    """Sum of weight x part; None where the check itself failed. A part the score lacks counts as 0."""
    if score.correct is None:
        return None
    return sum(weight * score.parts.get(part, 0.0) for part, weight in weights.items())
