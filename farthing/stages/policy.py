"""The policy of a reinforcement learning stage: one set of weights with its two users, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from farthing.algorithms.advantages import ADVANTAGES, is_dead
from farthing.algorithms.divergence import k3
from farthing.algorithms.losses import clipped_surrogate
from farthing.algorithms.reduction import REDUCTIONS
from farthing.algorithms.schedules import warmup
from farthing.cost.entries import Entry
from farthing.data.sample import Sample
from farthing.engine.api import Completion, SamplingParams
from farthing.engine.engine import Engine
from farthing.learner.api import Objective, TokenLoss, Tokens
from farthing.learner.checkpoint import Checkpoints
from farthing.learner.local import LocalLearner
from farthing.models.arithmetic import train_flops
from farthing.rollout.assemble import assemble
from farthing.rollout.collect import make_prompt, sample
from farthing.rollout.types import Group, Prompt
from farthing.runs.journal import Journal
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.context import Context
from farthing.stages.evaluate import Plan, ask, sampling_cost, spent, stop_ids, verdict
from farthing.stages.learning import optim_settings
from farthing.text.tokenizer import Tokenizer


@dataclass
class Policy:
    """The one set of weights with its two users: the engine samples from it, the learner moves it."""

    learner: LocalLearner
    engine: Engine
    tokenizer: Tokenizer
    checkpoints: Checkpoints
    journal: Journal
    reference: LocalLearner | None
    step: int = 0
    tokens_seen: int = 0

    @classmethod
    def start(cls, context: Context, config: GrpoConfig) -> Policy:
        model, tokenizer = context.load_model(config.model)
        dtype = context.compute_dtype(config.dtype)
        settings = optim_settings(config)
        reference = None
        if config.kl_coef > 0:
            frozen, _ = context.load_model(config.model)
            reference = LocalLearner(frozen, settings, compute_dtype=dtype, temperature=config.temperature)
        learner = LocalLearner(
            model,
            settings,
            compute_dtype=dtype,
            microbatch_tokens=config.microbatch_tokens,
            temperature=config.temperature,
        )
        engine = Engine(model, tokenizer, max_running=config.prompts_per_step * config.samples_per_prompt)
        checkpoints = Checkpoints(context.directory / "checkpoints", config.keep_checkpoints)
        journal = Journal(context.directory / "scores.jsonl")
        policy = cls(learner, engine, tokenizer, checkpoints, journal, reference)
        policy.resume(context)
        return policy

    def resume(self, context: Context) -> None:
        saved = self.checkpoints.latest()
        if saved is not None:
            self.learner.load_state(saved.tensors, saved.step)
            self.step, self.tokens_seen = saved.step, int(saved.state["tokens_seen"])
        context.metrics.truncate(context.name, self.step)
        context.samples.truncate(context.name, self.step)

    def draw(
        self, context: Context, config: GrpoConfig, entry: Entry
    ) -> tuple[list[Prompt], list[list[Completion]]]:
        """This step's prompts and their completions."""
        first = self.step * config.prompts_per_step
        problems = [
            context.taskset.problem("train", first + index) for index in range(config.prompts_per_step)
        ]
        prompts = [make_prompt(self.tokenizer, context.taskset, problem) for problem in problems]
        params = SamplingParams(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            stop_token_ids=stop_ids(self.tokenizer),
        )
        seed = (context.seed, context.name, self.step)
        completions = sample(self.engine, prompts, config.samples_per_prompt, params, seed)
        lengths = [len(completion.token_ids) for own in completions for completion in own]
        tokens, flops = sampling_cost(
            self.learner.model, [len(prompt.token_ids) for prompt in prompts], lengths
        )
        entry.tokens += tokens
        entry.flops += flops
        return prompts, completions

    def learn(self, config: GrpoConfig, groups: Sequence[Group], entry: Entry) -> dict[str, float]:
        """`updates_per_rollout` optimizer steps on the judged groups; the metrics of the last."""
        advantage, reduction = ADVANTAGES[config.advantage], REDUCTIONS[config.loss_reduction]
        size = -(-len(groups) // config.updates_per_rollout)
        metrics: dict[str, float] = {}
        scale = warmup(self.step, config.warmup_steps)
        for start in range(0, len(groups), size):
            part = groups[start : start + size]
            samples = assemble(part, advantage, reduction, config.max_new_tokens, config.skip_dead_groups)
            samples = self.with_reference(samples)
            metrics = self.learner.step(samples, objective(config), scale)
            tokens = sum(len(row.token_ids) for row in samples)
            entry.tokens += tokens
            entry.flops += train_flops(self.learner.model.config, tokens, tokens // max(len(samples), 1))
        self.engine.publish(self.step + 1, self.learner.compute_dtype)
        dead = sum(is_dead(group.rewards) for group in groups) / len(groups)
        return {**metrics, "lr": scale * config.lr, "frac_reward_zero_std": dead}

    def with_reference(self, samples: list[Sample]) -> list[Sample]:
        """The samples with the reference policy's log-probabilities, where a divergence is charged."""
        if self.reference is None:
            return samples
        logprobs = self.reference.logprobs(samples)
        return [replace(row, ref_logprobs=own) for row, own in zip(samples, logprobs, strict=True)]

    def evaluate(self, context: Context, config: GrpoConfig) -> dict[str, float]:
        """A quick look at held-out problems; always the same ones with the same seeds."""
        plan = Plan(
            config.eval_problems,
            config.eval_samples,
            temperature=1.0,
            max_new_tokens=config.max_new_tokens,
            seed=context.seed,
        )
        with context.ledger.phase(context.name, "evaluate", self.step) as entry:
            groups = ask(self.engine, self.tokenizer, context.taskset, plan)
            tokens, flops = spent(self.learner.model, groups)
            entry.tokens += tokens
            entry.flops += flops
            result = verdict(context.taskset.name, groups, plan)
        low, high = result["pass@1_interval"]
        return {
            "eval/pass@1": result["pass@1"],
            "eval/pass@1_low": low,
            "eval/pass@1_high": high,
            "eval/mean_length": result["mean_length"],
        }

    def save(self, context: Context) -> None:
        with context.ledger.phase(context.name, "checkpoint", self.step):
            self.checkpoints.save(self.step, self.learner.state(), {"tokens_seen": self.tokens_seen})
            self.journal.forget(self.step - 1)


def objective(config: GrpoConfig) -> Objective:
    """The token loss of this configuration: clipped surrogate, plus kl_coef x k3 where a reference is given."""

    def token_loss(tokens: Tokens) -> TokenLoss:
        loss, clipped = clipped_surrogate(
            tokens.logprobs, tokens.rollout_logprobs, tokens.advantages, config.clip_low, config.clip_high
        )
        with torch.no_grad():
            gap = tokens.rollout_logprobs - tokens.logprobs
            metrics = {
                "clip_ratio/region_mean": clipped.float(),
                "mismatch/kl": torch.exp(-gap) - 1 + gap,
                "mismatch/ratio_max": torch.exp(gap.abs()),
            }
        if config.kl_coef > 0:
            divergence = k3(tokens.logprobs, tokens.ref_logprobs)
            loss = loss + config.kl_coef * divergence
            metrics["kl"] = divergence.detach()
        return TokenLoss(loss, metrics)

    return token_loss
