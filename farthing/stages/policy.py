"""The policy of a reinforcement learning stage: one set of weights with its two users, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from farthing.algorithms.advantages import ADVANTAGES
from farthing.algorithms.reduction import REDUCTIONS
from farthing.algorithms.schedules import warmup
from farthing.cost.entries import Entry
from farthing.data.sample import Sample
from farthing.engine.engine import Engine
from farthing.learner.checkpoint import Checkpoints
from farthing.learner.freed import give_back
from farthing.learner.local import LocalLearner
from farthing.models.arithmetic import forward_flops
from farthing.models.decoder import Decoder
from farthing.rollout.assemble import assemble
from farthing.rollout.form import automaton
from farthing.rollout.types import Group
from farthing.runs.journal import Journal
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.context import Context
from farthing.stages.curriculum import Curriculum
from farthing.stages.evaluate import glance
from farthing.stages.learning import model_to_learn, optim_settings
from farthing.stages.objective import objective
from farthing.stages.reference import Reference
from farthing.stages.sampling import Drawn, ask, book, seed_of
from farthing.text.tokenizer import Tokenizer


@dataclass
class Policy:
    """The one set of weights with its two users: the engine samples from it, the learner moves it."""

    learner: LocalLearner
    engine: Engine
    tokenizer: Tokenizer
    checkpoints: Checkpoints
    journal: Journal
    curriculum: Curriculum
    reference: Reference | None = None
    step: int = 0
    tokens_seen: int = 0
    is_checked: bool = False

    @classmethod
    def start(cls, context: Context, config: GrpoConfig) -> Policy:
        """The policy as the stage's newest checkpoint has it; without one, as the stage begins."""
        model, tokenizer = model_to_learn(context, config)
        learner = LocalLearner(
            model,
            optim_settings(config),
            compute_dtype=context.compute_dtype(config.dtype),
            microbatch_tokens=config.microbatch_tokens,
            temperature=config.temperature,
        )
        reference = Reference.of(learner, config.reference_every) if config.kl_coef > 0 else None
        engine = sampling_engine(config, model, tokenizer, config.prompts_per_step)
        checkpoints = Checkpoints(context.directory / "checkpoints", config.keep_checkpoints)
        journal = Journal(context.directory / "scores.jsonl")
        curriculum = Curriculum(context.taskset, config.selection == "pass_rate")
        policy = cls(learner, engine, tokenizer, checkpoints, journal, curriculum, reference)
        policy.resume(context)
        return policy

    def resume(self, context: Context) -> None:
        """Put back the newest checkpoint, and drop what was logged after it."""
        saved = self.checkpoints.latest()
        if saved is not None:
            self.learner.load_state(saved.tensors, saved.step)
            self.step, self.tokens_seen = saved.step, int(saved.state["tokens_seen"])
            self.curriculum.load_state(saved.state["curriculum"])
            if self.reference is not None:
                self.reference.load_state(saved.tensors)
        context.metrics.truncate(context.name, self.step)
        context.samples.truncate(context.name, self.step)

    def draw(self, context: Context, config: GrpoConfig, count: int, refill: int, entry: Entry) -> Drawn:
        """The next `count` prompts and their completions; `refill` numbers the draws of one step, from 0."""
        problems = self.curriculum.draw(count)
        seed = (*seed_of(context, self.step), *([refill] if refill else []))
        drawn = ask(config, context.taskset, self.engine, self.tokenizer, problems, seed)
        book(entry, self.engine, drawn)
        return drawn

    def learn(self, config: GrpoConfig, groups: Sequence[Group], entry: Entry) -> dict[str, float]:
        """`updates_per_rollout` optimizer steps on the judged groups; of each metric its last value."""
        metrics: dict[str, float] = {}
        scale = warmup(self.step, config.warmup_steps)
        for update, samples in enumerate(self.batches(config, groups, entry)):
            metrics |= self.learner.step(samples, objective(config, update), scale)
            tokens = sum(len(row.token_ids) for row in samples)
            entry.tokens += tokens
            entry.flops += self.learner.train_flops(tokens, tokens // max(len(samples), 1))
        give_back()
        self.engine.publish(self.step + 1, self.learner.compute_dtype)
        if self.reference is not None:
            self.reference.follow(self.learner.model, self.step + 1)
        return {**metrics, "lr": scale * config.lr}

    def batches(self, config: GrpoConfig, groups: Sequence[Group], entry: Entry) -> list[list[Sample]]:
        """The samples of each update, with what their loss compares them with: the reference's log-probabilities, and
        the learner's own of now for the updates that begin with other weights."""
        advantage, reduction = ADVANTAGES[config.advantage], REDUCTIONS[config.loss_reduction]
        batches = []
        for update, part in enumerate(parts(groups, config.updates_per_rollout)):
            samples = assemble(part, advantage, reduction, config.max_new_tokens, config.skip_dead_groups)
            if self.reference is not None:
                samples = self.reference.refer(samples)
                note_forward(entry, self.learner, samples)
            if update and config.correction(update):
                logprobs = self.learner.logprobs(samples)
                samples = [replace(row, old_logprobs=old) for row, old in zip(samples, logprobs, strict=True)]
                note_forward(entry, self.learner, samples)
            batches.append(samples)
        return batches

    def evaluate(self, context: Context, config: GrpoConfig) -> dict[str, float]:
        """A quick look at held-out problems, as metrics."""
        return glance(context, config, self.engine, self.tokenizer, self.step)

    def save(self, context: Context) -> None:
        """Write the checkpoint of this step; the scores that led to it need no journal any more."""
        with context.ledger.phase(context.name, "checkpoint", self.step):
            reference = self.reference.state() if self.reference is not None else {}
            state = {"tokens_seen": self.tokens_seen, "curriculum": self.curriculum.state()}
            self.checkpoints.save(self.step, self.learner.state() | reference, state)
            self.journal.forget(self.step - 1)


def sampling_engine(config: GrpoConfig, model: Decoder, tokenizer: Tokenizer, prompts: int) -> Engine:
    """An engine that samples `prompts` groups at once, and tells a turn whose reward is decided. Parts beside accuracy
    and format may look at the whole turn, so with them none is."""
    weighed = {part for part, weight in config.rewards.items() if weight}
    tells = config.stop_decided and "format" in weighed <= {"accuracy", "format"}
    return Engine(
        model,
        tokenizer,
        max_running=prompts * config.samples_per_prompt,
        automaton=automaton(tokenizer, model.config.vocab_size) if tells else None,
    )


def parts(groups: Sequence[Group], count: int) -> list[Sequence[Group]]:
    """The groups in their order as `count` parts whose sizes differ by one at most."""
    ends = [-(-len(groups) * part // count) for part in range(count + 1)]
    return [groups[start:end] for start, end in pairwise(ends)]


def note_forward(entry: Entry, learner: LocalLearner, samples: Sequence[Sample]) -> None:
    """Book a forward pass over the samples; their tokens are counted where they are trained on."""
    tokens = sum(len(row.token_ids) for row in samples)
    entry.flops += forward_flops(learner.model.config, tokens, tokens // max(len(samples), 1))
