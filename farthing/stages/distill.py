"""The distillation stage, on-policy: the student writes, and the teacher says of every token how it would have gone on.

How it differs from GKD (arXiv 2306.13649), MiniLLM (arXiv 2306.08543) and on-policy distillation as Thinking Machines
describe it (2025):
1. All data is the student's own (GKD's lambda = 1), sampled anew for every step from its current weights.
2. The divergence is the reverse KL over the whole vocabulary, not of the sampled token: both models are on this
   machine, so the exact expectation costs nothing but the teacher's head. No policy gradient goes through later tokens.
3. The loss compares the raw models, at temperature 1, whatever the student was sampled at.

Distillation as R1 did it, supervised on the teacher's verified samples, is a rejection stage and an sft stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from farthing.algorithms.distillation import reverse_kl
from farthing.algorithms.schedules import warmup
from farthing.data.sample import Sample
from farthing.engine.api import Completion
from farthing.engine.engine import Engine
from farthing.errors import RecipeError
from farthing.learner.api import Objective, TokenLoss, Tokens
from farthing.learner.checkpoint import Checkpoints
from farthing.learner.local import LocalLearner
from farthing.models.arithmetic import CHUNK_LOGITS
from farthing.rollout.types import Prompt
from farthing.stages.agreement import check_agreement
from farthing.stages.config.distill import DistillConfig
from farthing.stages.context import Context
from farthing.stages.evaluate import glance
from farthing.stages.learning import optim_settings, whole_model
from farthing.stages.objective import mismatch
from farthing.stages.policy import note_forward
from farthing.stages.readings import Clock
from farthing.stages.sampling import draw
from farthing.text.tokenizer import Tokenizer


def run(context: Context) -> dict[str, str]:
    """Learn for `steps` steps, from the last checkpoint if there is one; writes model/."""
    config = context.of(DistillConfig)
    lesson = Lesson.start(context, config)
    context.metrics.begin(context.name, kind="distill", steps=config.steps, step=lesson.step)
    first = lesson.step
    while lesson.step < config.steps:
        clock = Clock()
        prompts, completions = draw(context, config, lesson.engine, lesson.tokenizer, lesson.step)
        if lesson.step == first:
            check_agreement(lesson.learner, prompts[:4], completions[:4])
        clock.lap("generate")
        metrics = lesson.learn(context, config, as_samples(prompts, completions))
        clock.lap("train")
        metrics |= _lengths(completions) | clock.metrics() | {"num_tokens": lesson.tokens_seen}
        if lesson.step % config.eval_every == 0 or lesson.step == config.steps:
            metrics |= lesson.evaluate(context, config)
        context.metrics.log(context.name, lesson.step, metrics)
        context.progress(lesson.step, config.steps)
        if lesson.step % config.checkpoint_every == 0 or lesson.step == config.steps:
            lesson.save(context)
    return context.save_model(lesson.learner.model, lesson.tokenizer, max_new_tokens=config.max_new_tokens)


@dataclass
class Lesson:
    """The student with its two users, the engine and the learner, and the teacher, who only reads."""

    learner: LocalLearner
    teacher: LocalLearner
    engine: Engine
    tokenizer: Tokenizer
    checkpoints: Checkpoints
    step: int = 0
    tokens_seen: int = 0

    @classmethod
    def start(cls, context: Context, config: DistillConfig) -> Lesson:
        student, tokenizer = whole_model(context, config.model)
        master, other = context.load_model(config.teacher)
        check_same_tokens(tokenizer, other, context.name, config.teacher)
        settings, dtype = optim_settings(config), context.compute_dtype(config.dtype)
        learner, teacher = (
            LocalLearner(
                model,
                settings,
                compute_dtype=dtype,
                microbatch_tokens=config.microbatch_tokens,
                temperature=config.temperature,
            )
            for model in (student, master)
        )
        engine = Engine(student, tokenizer, max_running=config.prompts_per_step * config.samples_per_prompt)
        checkpoints = Checkpoints(context.directory / "checkpoints", config.keep_checkpoints)
        lesson = cls(learner, teacher, engine, tokenizer, checkpoints)
        saved = checkpoints.latest()
        if saved is not None:
            learner.load_state(saved.tensors, saved.step)
            lesson.step, lesson.tokens_seen = saved.step, int(saved.state["tokens_seen"])
        context.metrics.truncate(context.name, lesson.step)
        return lesson

    def learn(self, context: Context, config: DistillConfig, samples: list[Sample]) -> dict[str, float]:
        """One optimizer step; the teacher's reading is paid for in the same phase."""
        scale = warmup(self.step, config.warmup_steps)
        with context.ledger.phase(context.name, "train", self.step) as entry:
            metrics = self.learner.step(samples, objective(self.learner, self.teacher), scale)
            tokens = sum(len(row.token_ids) for row in samples)
            entry.tokens += tokens
            entry.flops += self.learner.train_flops(tokens, tokens // len(samples))
            note_forward(entry, self.teacher, samples)
        self.step += 1
        self.tokens_seen += sum(row.num_trained for row in samples)
        self.engine.publish(self.step, self.learner.compute_dtype)
        return {**metrics, "lr": scale * config.lr}

    def evaluate(self, context: Context, config: DistillConfig) -> dict[str, float]:
        return glance(context, config, self.engine, self.tokenizer, self.step)

    def save(self, context: Context) -> None:
        with context.ledger.phase(context.name, "checkpoint", self.step):
            self.checkpoints.save(self.step, self.learner.state(), {"tokens_seen": self.tokens_seen})


def objective(student: LocalLearner, teacher: LocalLearner) -> Objective:
    """The reverse KL to the teacher on every token of the student's, a chunk of logits at a time."""
    width = min(student.model.config.vocab_size, teacher.model.config.vocab_size)
    size = max(1, CHUNK_LOGITS // width)

    def divergence(student_NC: Tensor, teacher_NC: Tensor) -> Tensor:
        logits = (student.model.logits(student_NC), teacher.model.logits(teacher_NC))
        return reverse_kl(*(each[:, :width].float() for each in logits))

    def token_loss(tokens: Tokens) -> TokenLoss:
        pairs = zip(tokens.hidden.split(size), teacher.hidden(tokens.samples).split(size), strict=True)
        # Logits are made again in the backward pass, so that no tensor over the vocabulary outlives its chunk.
        parts = [
            checkpoint(divergence, *pair, use_reentrant=False, preserve_rng_state=False) for pair in pairs
        ]
        return TokenLoss(torch.cat(parts), mismatch(tokens))

    return token_loss


def as_samples(prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]) -> list[Sample]:
    """Every token that the student wrote, each counting the same."""
    total = sum(len(one.token_ids) for own in completions for one in own)
    return [
        Sample(
            [*prompt.token_ids, *one.token_ids],
            len(prompt.token_ids),
            1.0 / total,
            rollout_logprobs=one.sampling_logprobs,
        )
        for prompt, own in zip(prompts, completions, strict=True)
        for one in own
    ]


def check_same_tokens(student: Tokenizer, teacher: Tokenizer, stage: str, name: str) -> None:
    """Refuse a teacher whose probabilities are about other tokens than the student's."""
    parts = [(one.definition["model"], [(t.content, t.id) for t in one.added]) for one in (student, teacher)]
    if parts[0] != parts[1]:
        raise RecipeError(
            f"[{stage}]: student and teacher have different tokenizers ({student.vocab_size} and {teacher.vocab_size} "
            "tokens), so the teacher's probabilities are about other tokens; let the teacher write instead: "
            f'a rejection stage with model = "{name}", and an sft stage on it'
        )


def _lengths(completions: Sequence[Sequence[Completion]]) -> dict[str, float]:
    every = [one for own in completions for one in own]
    lengths = [len(one.token_ids) for one in every]
    return {
        "completions/mean_length": sum(lengths) / len(lengths),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": sum(one.finish_reason == "length" for one in every) / len(every),
    }
