"""Checks of one batch that was sampled and judged. Thresholds are rules of thumb, named so that they can be argued
with."""

from __future__ import annotations

from statistics import fmean, pstdev

from farthing.algorithms.advantages import is_dead
from farthing.stages.checks.evidence import Evidence, Finding

FEW, MANY = 0.1, 0.9
CUT, LOST, ERRORS = 0.25, 0.02, 0.5


def truncation(e: Evidence) -> Finding:
    share = e.share(lambda rollout: rollout.is_truncated)
    measured = f"{share:.0%} cut off at {e.config.max_new_tokens} tokens"
    if share <= CUT:
        return Finding(measured)
    how = "every completion is" if share == 1 else f"{share:.0%} of the completions are"
    return Finding(measured, e.severe() if share == 1 else "warn", f"{how} cut off before an answer",
                   "raise max_new_tokens, or start from a model that ends its turns")  # fmt: skip


def unscorable(e: Evidence) -> Finding:
    share = e.share(lambda rollout: rollout.reward is None)
    measured = f"{share:.0%} could not be scored"
    if share <= LOST:
        return Finding(measured)
    error = next(rollout.score.error for rollout in e.rollouts if rollout.reward is None)
    return Finding(measured, e.severe() if share >= ERRORS else "warn",
                   f"the check itself fails on {share:.0%} of the completions: {error}",
                   "mend the verifier, or raise its limits")  # fmt: skip


def form(e: Evidence) -> Finding:
    share = fmean(rollout.score.parts.get("format", 0.0) for rollout in e.rollouts)
    measured = f"{share:.0%} in the asked form"
    if share == 0 and e.config.rewards.get("format"):
        return Finding(measured, "warn", "no sample has the asked form, so the format reward teaches nothing",
                       "say the form in the prompt, or start from a model that has seen it")  # fmt: skip
    return Finding(measured)


def pass_rate(e: Evidence) -> Finding:
    right = [rollout.score.correct for rollout in e.rollouts if rollout.score.correct is not None]
    rate = fmean(right) if right else 0.0
    measured = f"{rate:.1%} of {len(right)} samples"
    if rate == 0:
        return Finding(measured, "warn", "no sample is right, so nothing pulls towards right answers",
                       "take easier problems, a better base, or more samples_per_prompt")  # fmt: skip
    if rate >= MANY:
        return Finding(measured, "warn", "nearly all samples are right: little is left to learn",
                       "take harder problems")  # fmt: skip
    return Finding(measured)


def signal(e: Evidence) -> Finding:
    """A group whose samples all got the same reward has advantage 0 everywhere."""
    share = fmean(not is_dead(group.rewards) for group in e.groups)
    measured = f"{share:.0%} of {len(e.groups)} groups"
    if share >= FEW:
        return Finding(measured)
    rewards = [rollout.reward for rollout in e.rollouts if rollout.reward is not None]
    if not share and len(set(rewards)) > 1:
        why = (
            "rewards differ between problems and never within a group, so every advantage and the loss are 0"
        )
    elif not share and rewards:
        why = f"every sample got the reward {rewards[0]:g}, so every advantage and the loss are 0"
    else:
        why = f"{1 - share:.0%} of the groups teach nothing: their samples all got the same reward"
    solved = bool(rewards) and fmean(rewards) > 0.5 * sum(e.config.rewards.values())
    remedy = (
        "take harder problems"
        if solved
        else "take easier problems, a better base, or more samples_per_prompt"
    )
    return Finding(measured, "warn" if share else e.severe(), why, remedy)


def spread(e: Evidence) -> Finding:
    """Only what differs within a group reaches the loss."""
    groups = [[reward for reward in group.rewards if reward is not None] for group in e.groups]
    within = fmean([pstdev(own) for own in groups if own] or [0.0])
    return Finding(
        f"std {within:.3f} within groups, {pstdev([r for own in groups for r in own] or [0.0]):.3f} over all"
    )


def agreement(e: Evidence) -> Finding:
    if isinstance(e.gap, str):
        return Finding(
            "not the same", "refuse", e.gap, 'set dtype = "float32" to see whether rounding is to blame'
        )
    return Finding(f"{e.gap:.1g} nats per token apart")
