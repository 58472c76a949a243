"""The doctor: one batch, sampled and judged as the stage would, and what it says about whether the stage can learn.

A stage of reinforcement learning begins with it, on the batch that it samples anyway; `farthing doctor` samples the
same batch before anything is spent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from farthing.cost.hardware import Hardware
from farthing.engine.api import Completion
from farthing.errors import NumericsError, RecipeError
from farthing.learner.local import LocalLearner
from farthing.models.checkpoint import load_model
from farthing.models.config import ModelConfig
from farthing.rollout.collect import judge, make_prompt
from farthing.rollout.types import Group, Prompt
from farthing.runs.files import read_json, write_json
from farthing.stages.agreement import check_agreement
from farthing.stages.checks.evidence import ENOUGH, Evidence, Finding
from farthing.stages.checks.table import look
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.context import Context
from farthing.stages.learning import optim_settings
from farthing.stages.machine import compute_dtype
from farthing.stages.policy import Policy, sampling_engine
from farthing.stages.sampling import ask
from farthing.tasks.task import Taskset
from farthing.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)
PROBLEMS = 8
"""Problems whose gold answers are tried."""
BACKWARD = 3
"""Learning costs three forward passes: see models/arithmetic.py."""


@dataclass(frozen=True)
class Subject:
    """A stage to be examined. `model`: the directory of the model it would begin with, None where that is still to be
    made; then `shape` and `tokenizer_dir` are what is known of it, and `waits_for` is the stage that makes it."""

    stage: str
    config: GrpoConfig
    taskset: Taskset
    seed: int
    hardware: Hardware
    model: Path | None
    shape: ModelConfig | None
    tokenizer_dir: Path | None
    waits_for: str


@dataclass(frozen=True)
class Examination:
    """What the doctor found. `prompt`: what the model reads, the opening of its own turn in `prefill`."""

    stage: str
    findings: list[Finding]
    model: str | None
    waits_for: str
    prompt: str | None
    prefill: str | None

    @property
    def refusal(self) -> Finding | None:
        """The first thing that keeps the stage from learning."""
        return next((found for found in self.findings if found.verdict == "refuse"), None)


def admit(context: Context, config: GrpoConfig, policy: Policy, groups: Sequence[Group]) -> None:
    """Examine the first batch of a run: warnings are logged, everything is kept as preflight.json. Raises RecipeError
    for a run that cannot learn, unless preflight = "warn"."""
    evidence = Evidence(
        config,
        context.taskset,
        [group.prompt.problem for group in groups[:PROBLEMS]],
        context.hardware.memory_bytes,
        policy.learner.model.config,
        policy.tokenizer,
        groups,
        _generation(context.models[config.model]),
    )
    findings = look(evidence)
    write_json(context.directory / "preflight.json", [asdict(found) for found in findings])
    for found in findings:
        if found.verdict in ("warn", "refuse"):
            _log.warning("%s: %s; %s", context.name, found.sentence, found.remedy)
    refused(context.name, next((found for found in findings if found.verdict == "refuse"), None), config)


def refused(stage: str, found: Finding | None, config: GrpoConfig) -> None:
    """Raise RecipeError for what was found, where the recipe wants that."""
    if found is not None and config.preflight == "refuse":
        raise RecipeError(
            f'[{stage}] cannot learn: {found.sentence}; {found.remedy}, or set preflight = "warn" to go on all the same'
        )


def examine(subject: Subject) -> Examination:
    """Everything that can be known now; without a model no batch is sampled and its checks wait."""
    problems = [subject.taskset.problem("train", index) for index in range(PROBLEMS)]
    known = Evidence(subject.config, subject.taskset, problems, subject.hardware.memory_bytes, subject.shape)
    prompt: Prompt | None = None
    if subject.model is not None:
        known = _with_batch(known, subject, subject.model)
    elif subject.tokenizer_dir is not None:
        known = replace(known, tokenizer=Tokenizer.load(subject.tokenizer_dir))
    if known.tokenizer is not None:
        prompt = make_prompt(known.tokenizer, subject.taskset, problems[0])
    return Examination(
        subject.stage,
        look(known),
        None if subject.model is None else str(subject.model),
        subject.waits_for,
        None if prompt is None else prompt.text,
        None if prompt is None else prompt.prefill,
    )


def _with_batch(known: Evidence, subject: Subject, directory: Path) -> Evidence:
    """The evidence with one batch of the model in `directory`: the run's first, or more of it where that is small."""
    config = subject.config
    model, tokenizer = load_model(directory)
    if tokenizer is None:
        raise RecipeError(f"{directory}: no tokenizer.json, so it cannot be asked anything")
    dtype = compute_dtype(config.dtype, subject.hardware)
    learner = LocalLearner(
        model,
        optim_settings(config),
        compute_dtype=dtype,
        microbatch_tokens=config.microbatch_tokens,
        temperature=config.temperature,
    )
    count = max(config.prompts_per_step, -(-ENOUGH // config.samples_per_prompt))
    engine = sampling_engine(config, model, tokenizer, count)
    engine.publish(0, dtype)
    problems = [subject.taskset.problem("train", index) for index in range(count)]
    share = config.prompts_per_step / count
    seconds: dict[str, float] = {}
    with _timed(seconds, "generate", share):
        seed = (subject.seed, subject.stage, 0)
        prompts, drawn = ask(config, subject.taskset, engine, tokenizer, problems, seed)
    with _timed(seconds, "score", share):
        groups = judge(tokenizer, prompts, drawn, subject.taskset.score_many, config.rewards)
    with _timed(seconds, "learn", share * BACKWARD):
        gap = _gap(learner, prompts, drawn)
    return replace(
        known,
        shape=model.config,
        tokenizer=tokenizer,
        groups=groups,
        generation=_generation(directory),
        seconds=seconds,
        gap=gap,
    )


@contextmanager
def _timed(seconds: dict[str, float], name: str, share: float) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = share * (time.perf_counter() - began)


def _gap(
    learner: LocalLearner, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Completion]]
) -> float | str:
    """How far sampler and learner are apart on the whole batch, nats per token, or what is wrong between them."""
    try:
        return check_agreement(learner, prompts, drawn)
    except NumericsError as problem:
        return str(problem)


def _generation(directory: Path) -> Mapping[str, Any]:
    file = directory / "generation_config.json"
    found = read_json(file) if file.exists() else {}
    return found if isinstance(found, dict) else {}
