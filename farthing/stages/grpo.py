"""The reinforcement learning stage: pure RL as in R1-Zero (arXiv 2501.12948, section 2.2), on one page.

How it differs from the paper:
1. The reference term is off unless kl_coef says otherwise; with it, the reference is the stage's first weights.
2. Ratios and clips are per token, as in DeepSeekMath and all public code, not per output.
3. Each rollout is used for `updates_per_rollout` optimizer steps (default 1, fully on-policy; the paper: 16).
4. Groups whose samples all got the same reward are not trained on where their gradient is exactly zero.
5. "Old" log-probabilities are the sampler's own: engine and learner compute from one set of weights, and how far
   they are apart is a metric of every step.

A step is a function of (checkpoint, step index): problems, seeds and schedules are counted, nothing else is carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

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
from farthing.models.checkpoint import save_model
from farthing.rollout.assemble import assemble
from farthing.rollout.collect import Scorer, judge, make_prompt, sample
from farthing.rollout.types import Group, Prompt
from farthing.runs.journal import Journal, digest
from farthing.stages.agreement import check_agreement
from farthing.stages.config import GrpoConfig
from farthing.stages.context import Context
from farthing.stages.evaluate import Plan, ask, sampling_cost, spent, stop_ids, verdict
from farthing.stages.pretrain import optim_settings
from farthing.stages.readings import Clock, group_record, note_waste, rollout_metrics
from farthing.tasks.task import Problem, Score
from farthing.text.tokenizer import Tokenizer


def run(context: Context) -> dict[str, str]:
    """Learn for `steps` steps, from the last checkpoint if there is one; writes model/."""
    config = context.of(GrpoConfig)
    rl = Policy.start(context, config)
    context.metrics.begin(context.name, kind="grpo", steps=config.steps, step=rl.step)
    first = rl.step
    while rl.step < config.steps:
        clock = Clock()
        with context.ledger.phase(context.name, "generate", rl.step, held=True) as drawing:
            prompts, completions = rl.draw(context, config, drawing)
            if rl.step == first:
                check_agreement(rl.learner, prompts[:4], completions[:4])
        clock.lap("generate")
        with context.ledger.phase(context.name, "score", rl.step):
            scorer = journaled(context.taskset.score_many, rl.journal, rl.step)
            judged = judge(rl.tokenizer, prompts, completions, scorer, config.rewards)
            note_waste(drawing, judged)
        clock.lap("score")
        with context.ledger.phase(context.name, "train", rl.step) as entry:
            metrics = rl.learn(config, judged, entry)
        clock.lap("train")
        rl.step += 1
        rl.tokens_seen += sum(rollout.num_tokens for group in judged for rollout in group.rollouts)
        metrics |= rollout_metrics(judged) | clock.metrics() | {"num_tokens": rl.tokens_seen}
        if rl.step % config.eval_every == 0:
            metrics |= rl.evaluate(context, config)
        context.metrics.log(context.name, rl.step, metrics)
        keep_samples(context, config, rl.step, judged)
        context.progress(rl.step, config.steps)
        if rl.step % config.checkpoint_every == 0 or rl.step == config.steps:
            rl.save(context)
    with context.ledger.phase(context.name, "checkpoint"):
        card = {
            "task": {"name": context.task.name, "settings": context.task.settings},
            "stage": context.name,
            "max_new_tokens": config.max_new_tokens,
        }
        save_model(rl.learner.model, rl.tokenizer, context.run.path / "model", card)
    return {"model": "model"}


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
        model, tokenizer = context.load_model()
        dtype = context.compute_dtype(config.dtype)
        settings = optim_settings(config)
        reference = None
        if config.kl_coef > 0:
            frozen, _ = context.load_model()
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


def journaled(scorer: Scorer, journal: Journal, step: int) -> Scorer:
    """The same scorer, asked once per step: scores are on disk before they are used, and a step that is done again
    after a crash takes them from there. A verifier with a time limit might answer differently the second time."""

    def score(pairs: Sequence[tuple[str, Problem]]) -> list[Score]:
        samples = digest([[text, problem] for text, problem in pairs])
        known = journal.lookup(step, samples)
        if known is None:
            known = [asdict(score) for score in scorer(pairs)]
            journal.append(step, samples, known)
        return [Score(**fields) for fields in known]

    return score


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


def keep_samples(context: Context, config: GrpoConfig, step: int, groups: Sequence[Group]) -> None:
    """Whole groups for reading, now and then: those that teach first."""
    if step % config.samples_every and step != 1:
        return
    advantage = ADVANTAGES[config.advantage]
    order = sorted(range(len(groups)), key=lambda index: (is_dead(groups[index].rewards), index))
    for index in order[: config.samples_kept]:
        context.samples.log(context.name, step, group_record(groups[index], advantage(groups[index].rewards)))
