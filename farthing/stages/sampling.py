"""Training problems put to a model, for stages that learn from what it writes."""

from __future__ import annotations

from collections.abc import Sequence

from farthing.cost.entries import Entry
from farthing.engine.api import Completion, SamplingParams
from farthing.engine.engine import Engine
from farthing.rollout.collect import make_prompt, sample
from farthing.rollout.form import opening
from farthing.rollout.types import Prompt
from farthing.stages.config.sampling import SamplingConfig
from farthing.stages.context import Context
from farthing.stages.evaluate import sampling_cost
from farthing.tasks.task import Problem, Taskset
from farthing.text.chat import stop_ids
from farthing.text.tokenizer import Tokenizer

Drawn = tuple[list[Prompt], list[list[Completion]]]


def draw(
    context: Context,
    config: SamplingConfig,
    engine: Engine,
    tokenizer: Tokenizer,
    step: int,
    last: int | None = None,
) -> Drawn:
    """The prompts of a step, up to problem `last`, and their completions: a function of (weights, step)."""
    first = step * config.prompts_per_step
    behind = first + config.prompts_per_step if last is None else min(first + config.prompts_per_step, last)
    problems = [context.taskset.problem("train", index) for index in range(first, behind)]
    with context.ledger.phase(context.name, "generate", step) as entry:
        drawn = ask(config, context.taskset, engine, tokenizer, problems, seed_of(context, step))
        book(entry, engine, drawn)
    return drawn


def ask(
    config: SamplingConfig,
    taskset: Taskset,
    engine: Engine,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    seed: Sequence[object],
) -> Drawn:
    """Problems as the model reads them, and `samples_per_prompt` completions of each; an engine with an automaton ends
    them once their reward is decided."""
    prompts = [make_prompt(tokenizer, taskset, problem) for problem in problems]
    states = [
        opening(engine.automaton, tokenizer, taskset.form(**prompt.problem), prompt.prefill)
        for prompt in prompts
    ]
    params = SamplingParams(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        stop_token_ids=stop_ids(tokenizer),
    )
    return prompts, sample(engine, prompts, config.samples_per_prompt, params, seed, states=states)


def book(entry: Entry, engine: Engine, drawn: Drawn) -> None:
    """Enter what was sampled into the ledger."""
    prompts, completions = drawn
    lengths = [len(one.token_ids) for own in completions for one in own]
    tokens, flops = sampling_cost(engine.model, [len(prompt.token_ids) for prompt in prompts], lengths)
    entry.tokens += tokens
    entry.flops += flops


def seed_of(context: Context, step: int) -> tuple[object, ...]:
    """What names the draws of a step; the place of the prompt and of the sample follow."""
    return (context.seed, context.name, step)
