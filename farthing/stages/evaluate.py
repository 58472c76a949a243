"""The evaluation stage: what models can do, with intervals, on problems they have never seen.

The same prompts, sampling and verifier as in training. Each judged problem is written down, so that an evaluation that
was interrupted goes on behind the last whole chunk and ends with the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from farthing.engine.api import Generator, SamplingParams
from farthing.engine.engine import Engine
from farthing.errors import CheckpointError, TaskError
from farthing.models.arithmetic import forward_flops
from farthing.models.checkpoint import load_model
from farthing.models.decoder import Decoder
from farthing.models.int8 import quantise
from farthing.rollout.collect import judge, make_prompt, sample
from farthing.rollout.types import Group
from farthing.runs.files import JsonLines, read_lines, write_json
from farthing.stages.config.evaluate import EvaluateConfig
from farthing.stages.config.sampling import GlanceConfig
from farthing.stages.context import Context
from farthing.stages.evidence import Answer, Asked, Evaluation, Plan, rates, verdict
from farthing.tasks.task import Taskset
from farthing.text.chat import stop_ids
from farthing.text.regions import split
from farthing.text.tokenizer import Tokenizer

CHUNK_SAMPLES = 1024  # asked at once; what an interruption may cost


def run(context: Context) -> dict[str, str]:
    """Evaluate each model on each taskset; writes evaluations.json and problems.json, both {model: {task: ...}}."""
    config = context.of(EvaluateConfig)
    context.metrics.truncate(context.name, None)
    context.metrics.begin(context.name, kind="evaluate", steps=1)
    journal = Journal(context.directory / "answers.jsonl")
    evaluations: dict[str, dict[str, Evaluation]] = {}
    problems: dict[str, dict[str, list[Any]]] = {}
    for name in config.named(context.made, starts=context.model.path is not None):
        model, tokenizer = context.load_model(name)
        model.publish(context.compute_dtype("auto"))
        engine = Engine(model, tokenizer)
        for task in config.tasks or list(context.tasksets):
            plan = _plan(config, context.seed).within(context.tasksets[task].size(config.split))
            asked = _resumed(context, journal, (name, task), engine, tokenizer, plan)
            evaluations.setdefault(name, {})[task] = verdict(task, asked, plan)
            problems.setdefault(name, {})[task] = _per_problem(asked, plan)
    journal.close()
    write_json(context.directory / "problems.json", problems)
    write_json(context.directory / "evaluations.json", evaluations)
    context.metrics.log(context.name, 1, shown(evaluations))
    here = f"stages/{context.name}"
    return {"evaluations": f"{here}/evaluations.json", "problems": f"{here}/problems.json"}


def _plan(config: EvaluateConfig, seed: int) -> Plan:
    return Plan(
        config.problems,
        config.samples,
        config.vote_problems,
        config.vote_samples,
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        split=config.split,
        seed=seed,
    )


class Journal:
    """The answers of an evaluation as they come: one line for each problem of a model and a taskset."""

    def __init__(self, path: Path) -> None:
        self._known: dict[tuple[str, str], list[Asked]] = {}
        for line in read_lines(path):
            self._known.setdefault((line["model"], line["task"]), []).append(Asked.of(line))
        self._file = JsonLines(path)

    def known(self, key: tuple[str, str]) -> list[Asked]:
        """What has been answered, in the order of the problems."""
        return self._known.get(key, [])

    def append(self, key: tuple[str, str], asked: Sequence[Asked]) -> None:
        for one in asked:
            self._file.append({"model": key[0], "task": key[1], **one.record()})

    def close(self) -> None:
        self._file.close()


def _resumed(
    context: Context,
    journal: Journal,
    key: tuple[str, str],
    engine: Engine,
    tokenizer: Tokenizer,
    plan: Plan,
) -> list[Asked]:
    """All answers of one model to one taskset; whole chunks that the journal has are not asked again."""
    taskset, known, done = context.tasksets[key[1]], journal.known(key), []
    for chunk in chunks(plan):
        own = known[chunk.start : chunk.stop]
        if len(own) < len(chunk):
            with context.ledger.phase(context.name, "evaluate") as entry:
                found = ask(engine, tokenizer, taskset, plan, chunk)
                tokens, flops = spent(engine.model, found)
                entry.tokens += tokens
                entry.flops += flops
            journal.append(key, found[len(own) :])
            own = found
        done += own
    return done


def chunks(plan: Plan) -> Iterator[range]:
    """The problems of a plan in the portions that are asked at once: a function of the plan alone."""
    start = samples = 0
    total = max(plan.problems, plan.vote_problems)
    for index in range(total):
        samples += plan.samples_of(index)
        if samples >= CHUNK_SAMPLES or index == total - 1:
            yield range(start, index + 1)
            start, samples = index + 1, 0


def ask(
    generator: Generator, tokenizer: Tokenizer, taskset: Taskset, plan: Plan, chunk: range | None = None
) -> list[Asked]:
    """Sample and judge the problems of `chunk`, all of the plan when not given."""
    plan = plan.within(taskset.size(plan.split))
    chunk = range(max(plan.problems, plan.vote_problems)) if chunk is None else chunk
    if not chunk:
        raise TaskError(f'task "{taskset.name}": there are no {plan.split} problems to evaluate on')
    prompts = [make_prompt(tokenizer, taskset, taskset.problem(plan.split, index)) for index in chunk]
    params = SamplingParams(
        max_new_tokens=plan.max_new_tokens,
        temperature=plan.temperature,
        top_p=plan.top_p,
        stop_token_ids=stop_ids(tokenizer),
    )
    counts = [plan.samples_of(index) for index in chunk]
    completions = sample(generator, prompts, counts, params, ("evaluate", plan.seed), first=chunk.start)
    groups = judge(tokenizer, prompts, completions, taskset.score_many, {"accuracy": 1.0})
    return [asked(group, tokenizer) for group in groups]


def glance(
    context: Context, config: GlanceConfig, engine: Engine, tokenizer: Tokenizer, step: int
) -> dict[str, float]:
    """A quick look at held-out problems during a learning stage; always the same ones with the same seeds."""
    plan = Plan(
        config.eval_problems,
        config.eval_samples,
        temperature=1.0,
        max_new_tokens=config.max_new_tokens,
        seed=context.seed,
    )
    with context.ledger.phase(context.name, "evaluate", step) as entry:
        found = ask(engine, tokenizer, context.taskset, plan)
        tokens, flops = spent(engine.model, found)
        entry.tokens += tokens
        entry.flops += flops
        result = verdict(context.taskset.name, found, plan)
    low, high = result["pass@1_interval"]
    return {
        "eval/pass@1": result["pass@1"],
        "eval/pass@1_low": low,
        "eval/pass@1_high": high,
        "eval/mean_length": result["mean_length"],
    }


def asked(group: Group, tokenizer: Tokenizer) -> Asked:
    """What the numbers need of a judged group."""
    answers = []
    for rollout in group.rollouts:
        thinking = split(rollout.text).thinking
        length = None if thinking is None else len(tokenizer.encode(thinking))
        score, cut = rollout.score, rollout.is_truncated
        answers.append(Answer(score.correct, score.answer, rollout.num_tokens, length, cut, score.parts))
    return Asked(group.prompt.problem, list(group.prompt.token_ids), answers)


def _per_problem(asked: Sequence[Asked], plan: Plan) -> list[dict[str, Any]]:
    """For each problem its rate, and the language's share where the taskset knows it."""
    right, spoken = rates(asked, plan), rates(asked, plan, "language")
    knows = any("language" in answer.parts for one in asked for answer in one.answers)
    return [
        {"problem": one.problem, "rate": rate, **({"language": share} if knows else {})}
        for one, rate, share in zip(asked, right, spoken, strict=False)
    ]


def shown(evaluations: dict[str, dict[str, Evaluation]]) -> dict[str, float]:
    """The numbers as metrics: eval/pass@1 of a single one, eval/MODEL/TASK/pass@1 of several."""
    several = len(evaluations) > 1 or any(len(tasks) > 1 for tasks in evaluations.values())
    return {
        f"eval/{model}/{task}/{name}" if several else f"eval/{name}": value
        for model, tasks in evaluations.items()
        for task, result in tasks.items()
        for name, value in result.items()
        if isinstance(value, int | float)
    }


def spent(model: Decoder, asked: Sequence[Asked]) -> tuple[int, int]:
    """(tokens computed, FLOPs) of sampling these answers: each prompt once, each completion token once."""
    lengths = [answer.tokens for one in asked for answer in one.answers]
    return sampling_cost(model, [len(one.prompt_ids) for one in asked], lengths)


def sampling_cost(model: Decoder, prompts: Sequence[int], completions: Sequence[int]) -> tuple[int, int]:
    """(tokens computed, FLOPs) of prompts and completions of these lengths."""
    tokens = sum(prompts) + sum(completions)
    context = sum(completions) // max(len(completions), 1) + sum(prompts) // max(len(prompts), 1)
    return tokens, forward_flops(model.config, tokens, context)


def ask_model(
    path: str | Path, taskset: Taskset, plan: Plan, dtype: str = "float32", quantize: str | None = None
) -> list[Asked]:
    """The judged answers of a model directory, with weights of 8 bits if `quantize` is "int8"; raises CheckpointError
    where it cannot be loaded."""
    model, tokenizer = load_model(path, dtype)
    if quantize:
        quantise(model)
    if tokenizer is None:
        raise CheckpointError(f"{path}: no tokenizer.json, so it cannot be asked anything")
    engine = Engine(model, tokenizer)
    plan = plan.within(taskset.size(plan.split))
    return [one for chunk in chunks(plan) for one in ask(engine, tokenizer, taskset, plan, chunk)]


def evaluate_model(
    path: str | Path, taskset: Taskset, plan: Plan, dtype: str = "float32", quantize: str | None = None
) -> Evaluation:
    """The evaluation of a model directory, as `ask_model` asks it."""
    return verdict(taskset.name, ask_model(path, taskset, plan, dtype, quantize), plan)
