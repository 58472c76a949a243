"""Training problems put to a model, for stages that learn from what it writes."""

from __future__ import annotations

from farthing.engine.api import Completion, SamplingParams
from farthing.engine.engine import Engine
from farthing.rollout.collect import make_prompt, sample
from farthing.rollout.types import Prompt
from farthing.stages.config.sampling import SamplingConfig
from farthing.stages.context import Context
from farthing.stages.evaluate import sampling_cost
from farthing.text.chat import stop_ids
from farthing.text.tokenizer import Tokenizer


def draw(
    context: Context,
    config: SamplingConfig,
    engine: Engine,
    tokenizer: Tokenizer,
    step: int,
    last: int | None = None,
) -> tuple[list[Prompt], list[list[Completion]]]:
    """The prompts of a step, up to problem `last`, and their completions: a function of (weights, step)."""
    first = step * config.prompts_per_step
    behind = first + config.prompts_per_step if last is None else min(first + config.prompts_per_step, last)
    problems = [context.taskset.problem("train", index) for index in range(first, behind)]
    params = SamplingParams(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        stop_token_ids=stop_ids(tokenizer),
    )
    with context.ledger.phase(context.name, "generate", step) as entry:
        prompts = [make_prompt(tokenizer, context.taskset, problem) for problem in problems]
        completions = sample(engine, prompts, config.samples_per_prompt, params, seed_of(context, step))
        lengths = [len(one.token_ids) for own in completions for one in own]
        asked = [len(prompt.token_ids) for prompt in prompts]
        entry.tokens, entry.flops = sampling_cost(engine.model, asked, lengths)
    return prompts, completions


def seed_of(context: Context, step: int) -> tuple[object, ...]:
    """What names the draws of a step; the place of the prompt and of the sample follow."""
    return (context.seed, context.name, step)
