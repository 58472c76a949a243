"""The reinforcement learning stage: pure RL as in R1-Zero (arXiv 2501.12948, section 2.2), on one page.

How it differs from the paper:
1. The reference term is off unless kl_coef says otherwise; with it, the reference is the stage's first weights, or
   follows every `reference_every` steps.
2. Ratios and clips are per token, as in DeepSeekMath and all public code, not per output; GSPO's are per output.
3. Each rollout is used for `updates_per_rollout` optimizer steps (default 1, fully on-policy; the paper: 16).
4. Groups whose samples all got the same reward are not trained on where their gradient is exactly zero, and can be
   replaced by others.
5. "Old" log-probabilities are the sampler's own in a rollout's first update: engine and learner compute from one set
   of weights, and how far they are apart is a metric of every step.
6. A sample ends once its reward is decided (`stop_decided`), not only where the model ends it or has no room left.

A step is a function of (checkpoint, step index): problems, seeds and schedules are counted, nothing else is carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from farthing.algorithms.advantages import ADVANTAGES, is_dead
from farthing.errors import Derailed
from farthing.rollout.assemble import fullest
from farthing.rollout.collect import Scorer, judge
from farthing.rollout.preference import PREFERENCES, preferred
from farthing.rollout.shaping import soften_limit
from farthing.rollout.types import Group
from farthing.runs.journal import Journal, digest
from farthing.stages.agreement import check_agreement
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.context import Context
from farthing.stages.guards import Watch, go_back, slowed
from farthing.stages.policy import Policy
from farthing.stages.preflight import admit
from farthing.stages.readings import Clock, group_record, note_waste, rollout_metrics
from farthing.tasks.task import Problem, Score


def run(context: Context) -> dict[str, str]:
    """Learn for `steps` steps, from the last checkpoint if there is one; writes model/."""
    config = context.of(GrpoConfig)
    rl = None
    while rl is None:
        rl = attempt(context, config)
    return context.save_model(rl.learner.model, rl.tokenizer, max_new_tokens=config.max_new_tokens)


def attempt(context: Context, config: GrpoConfig) -> Policy | None:
    """The stage from where it is to its end; None where it had to go back. A new attempt begins when the weights and
    the optimizer of this one are gone: there may be no room for both."""
    paced = slowed(context, config)
    rl = Policy.start(context, paced)
    try:
        learn(context, paced, rl)
    except Derailed as trouble:
        go_back(context, config, trouble, rl.step)
        return None
    return rl


def learn(context: Context, config: GrpoConfig, rl: Policy) -> None:
    """The steps that are left; raises Derailed where a guard says that the run has gone wrong."""
    context.metrics.begin(context.name, kind="grpo", steps=config.steps, step=rl.step)
    watch = Watch(context, config.guards)
    while rl.step < config.steps:
        clock = Clock()
        drawn = roll_out(context, config, rl, clock)
        if rl.step == 0:
            admit(context, config, rl, drawn)
        with context.ledger.phase(context.name, "train", rl.step) as entry:
            metrics = rl.learn(config, fullest(drawn, config.prompts_per_step), entry)
        clock.lap("train")
        rl.step += 1
        rl.tokens_seen += sum(rollout.num_tokens for group in drawn for rollout in group.rollouts)
        metrics |= rollout_metrics(drawn) | clock.metrics() | {"num_tokens": rl.tokens_seen}
        if rl.step % config.eval_every == 0:
            metrics |= rl.evaluate(context, config)
        record = context.metrics.log(context.name, rl.step, metrics)
        keep_samples(context, config, rl.step, drawn)
        context.progress(rl.step, config.steps)
        watch.see(record)
        if rl.step % config.checkpoint_every == 0 or rl.step == config.steps:
            rl.save(context)


def roll_out(context: Context, config: GrpoConfig, rl: Policy, clock: Clock) -> list[Group]:
    """Sample and judge this step's groups. As many as teach nothing are drawn anew from the next problems, at most
    `refill_rounds` times; then the step goes on with what it has."""
    preference = PREFERENCES[config.preference]() if config.preference else None
    scorer = journaled(preferred(context.taskset.score_many, preference), rl.journal, rl.step)
    drawn: list[Group] = []
    for refill in range(1 + config.refill_rounds):
        missing = config.prompts_per_step - sum(not is_dead(group.rewards) for group in drawn)
        if not missing:
            break
        with context.ledger.phase(context.name, "generate", rl.step, held=True) as drawing:
            prompts, completions = rl.draw(context, config, missing, refill, drawing)
            if not rl.is_checked:
                check_agreement(rl.learner, prompts[:4], completions[:4])
                rl.is_checked = True
        clock.lap("generate")
        with context.ledger.phase(context.name, "score", rl.step):
            judged = judge(rl.tokenizer, prompts, completions, scorer, config.rewards)
            judged = soften_limit(
                judged, config.max_new_tokens, config.overlong_share, config.overlong_penalty
            )
            note_waste(drawing, judged)
        clock.lap("score")
        drawn += judged
    rl.curriculum.note(drawn)
    return drawn


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


def keep_samples(context: Context, config: GrpoConfig, step: int, groups: Sequence[Group]) -> None:
    """Whole groups for reading, now and then: those that teach first."""
    if step % config.samples_every and step != 1:
        return
    advantage = ADVANTAGES[config.advantage]
    order = sorted(range(len(groups)), key=lambda index: (is_dead(groups[index].rewards), index))
    for index in order[: config.samples_kept]:
        context.samples.log(context.name, step, group_record(groups[index], advantage(groups[index].rewards)))
