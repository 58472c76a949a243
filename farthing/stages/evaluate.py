"""The evaluation stage: what a model can do, with intervals, on problems it has never seen.

The same prompts, sampling and verifier as in training; truncated, unparsable, unscorable and wrong are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farthing.algorithms.estimators import cons, interval, pass_at_1, pass_at_k
from farthing.engine.api import Generator, SamplingParams
from farthing.engine.engine import Engine
from farthing.errors import CheckpointError
from farthing.models.arithmetic import forward_flops
from farthing.models.checkpoint import load_model
from farthing.models.decoder import Decoder
from farthing.models.int8 import quantise
from farthing.rollout.collect import judge, make_prompt, sample
from farthing.rollout.types import Group
from farthing.runs.files import write_json
from farthing.stages.config.evaluate import EvaluateConfig
from farthing.stages.context import Context
from farthing.tasks.task import Split, Taskset
from farthing.text.tokenizer import Tokenizer

Evaluation = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much to sample: `samples` of each of the first `problems`, raised to `vote_samples` on the first
    `vote_problems` of them for pass@k and cons@k."""

    problems: int
    samples: int
    vote_problems: int = 0
    vote_samples: int = 0
    temperature: float = 1.0
    max_new_tokens: int = 256
    split: Split = "heldout"
    seed: int = 0

    def within(self, size: int | None) -> Plan:
        """The same plan for a split of `size` problems, which may have fewer than asked for."""
        if size is None:
            return self
        return Plan(
            **{
                **vars(self),
                "problems": min(self.problems, size),
                "vote_problems": min(self.vote_problems, size),
            }
        )


def run(context: Context) -> dict[str, str]:
    """Evaluate the model the configuration names and keep the result as evaluation.json."""
    config = context.of(EvaluateConfig)
    context.metrics.truncate(context.name, None)
    context.metrics.begin(context.name, kind="evaluate", steps=1)
    model, tokenizer = context.load_model(config.model)
    model.publish(context.compute_dtype("auto"))
    plan = Plan(
        config.problems,
        config.samples,
        config.vote_problems,
        config.vote_samples,
        config.temperature,
        config.max_new_tokens,
        config.split,
        context.seed,
    )
    with context.ledger.phase(context.name, "evaluate") as entry:
        groups = ask(Engine(model, tokenizer), tokenizer, context.taskset, plan)
        result = verdict(context.taskset.name, groups, plan)
        tokens, flops = spent(model, groups)
        entry.tokens += tokens
        entry.flops += flops
    write_json(context.directory / "evaluation.json", result)
    shown = {name: value for name, value in result.items() if isinstance(value, int | float)}
    context.metrics.log(context.name, 1, {f"eval/{name}": value for name, value in shown.items()})
    return {"evaluation": f"stages/{context.name}/evaluation.json"}


def ask(generator: Generator, tokenizer: Tokenizer, taskset: Taskset, plan: Plan) -> list[Group]:
    """Sample and judge: one group per problem, the first `vote_problems` of them larger."""
    plan = plan.within(taskset.size(plan.split))
    problems = [taskset.problem(plan.split, index) for index in range(max(plan.problems, plan.vote_problems))]
    prompts = [make_prompt(tokenizer, taskset, problem) for problem in problems]
    params = SamplingParams(
        max_new_tokens=plan.max_new_tokens, temperature=plan.temperature, stop_token_ids=stop_ids(tokenizer)
    )
    votes = max(plan.samples, plan.vote_samples) if plan.vote_problems else plan.samples
    first = sample(generator, prompts[: plan.vote_problems], votes, params, ("evaluate", plan.seed, "vote"))
    rest = sample(
        generator, prompts[plan.vote_problems :], plan.samples, params, ("evaluate", plan.seed, "rest")
    )
    return judge(tokenizer, prompts, [*first, *rest], taskset.score_many, {"accuracy": 1.0})


def verdict(task: str, groups: Sequence[Group], plan: Plan) -> Evaluation:
    """The numbers of an evaluation. A sample that could not be scored counts as not right and is reported apart."""
    plan = plan.within(len(groups))
    right = [[rollout.score.correct or 0.0 for rollout in group.rollouts] for group in groups]
    first = [row[: plan.samples] for row in right[: plan.problems]]
    counted = [rollout for group in groups[: plan.problems] for rollout in group.rollouts[: plan.samples]]
    per_problem = [sum(row) / len(row) for row in first]
    low, high = interval(per_problem)
    truncated = [rollout.is_truncated for rollout in counted]
    unscorable = [rollout.score.correct is None for rollout in counted]
    unparsable = [
        r.score.answer is None and not r.is_truncated and r.score.correct is not None for r in counted
    ]
    result: Evaluation = {
        "task": task,
        "split": plan.split,
        "n": len(first),
        "samples": plan.samples,
        "temperature": plan.temperature,
        "pass@1": pass_at_1(first),
        "pass@1_interval": [low, high],
        "mean_length": sum(rollout.num_tokens for rollout in counted) / len(counted),
        "truncated": sum(truncated) / len(counted),
        "unparsable": sum(unparsable) / len(counted),
        "unscorable": sum(unscorable) / len(counted),
        "prompt_ids": list(groups[0].prompt.token_ids),
    }
    return result | _votes(groups[: plan.vote_problems], right[: plan.vote_problems], plan.vote_samples)


def _votes(groups: Sequence[Group], right: Sequence[Sequence[float]], k: int) -> Evaluation:
    """pass@k and cons@k with their intervals, where there are groups of k."""
    if not groups or k < 2:
        return {}
    passed = [pass_at_k(len(row), sum(value >= 1.0 for value in row), k) for row in right]
    agreed = [
        cons([r.score.answer for r in g.rollouts[:k]], row[:k]) for g, row in zip(groups, right, strict=True)
    ]
    return {
        "vote_n": len(groups),
        f"pass@{k}": sum(passed) / len(passed),
        f"pass@{k}_interval": list(interval(passed)),
        f"cons@{k}": sum(agreed) / len(agreed),
        f"cons@{k}_interval": list(interval(agreed)),
    }


def spent(model: Decoder, groups: Sequence[Group]) -> tuple[int, int]:
    """(tokens computed, FLOPs) of sampling these groups: each prompt once, each completion token once."""
    lengths = [rollout.num_tokens for group in groups for rollout in group.rollouts]
    return sampling_cost(model, [len(group.prompt.token_ids) for group in groups], lengths)


def sampling_cost(model: Decoder, prompts: Sequence[int], completions: Sequence[int]) -> tuple[int, int]:
    """(tokens computed, FLOPs) of prompts and completions of these lengths."""
    tokens = sum(prompts) + sum(completions)
    context = sum(completions) // max(len(completions), 1) + sum(prompts) // max(len(prompts), 1)
    return tokens, forward_flops(model.config, tokens, context)


def stop_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The token that ends a turn, if the vocabulary has one."""
    return () if tokenizer.eos_id is None else (tokenizer.eos_id,)


def evaluate_model(
    path: str | Path, taskset: Taskset, plan: Plan, dtype: str = "float32", quantize: str | None = None
) -> Evaluation:
    """Evaluate a model directory, with weights of 8 bits if `quantize` is "int8"; raises CheckpointError where it
    cannot be loaded."""
    model, tokenizer = load_model(path, dtype)
    if quantize:
        quantise(model)
    if tokenizer is None:
        raise CheckpointError(f"{path}: no tokenizer.json, so it cannot be asked anything")
    return verdict(taskset.name, ask(Engine(model, tokenizer), tokenizer, taskset, plan), plan)
