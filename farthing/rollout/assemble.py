"""From judged groups to training samples: advantages within groups, one weight per token, dead groups left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from farthing.algorithms.advantages import Rewards, is_dead
from farthing.algorithms.reduction import Reduction
from farthing.data.sample import Sample
from farthing.rollout.types import Group


def assemble(
    groups: Sequence[Group],
    advantage: Callable[[Rewards], list[float]],
    reduction: Reduction,
    max_new_tokens: int,
    skip_dead: bool,
) -> list[Sample]:
    """Training samples of all groups that teach something.

    The denominators count every sample, those of skipped groups too: what is skipped has advantage 0 and no other
    term, so leaving it out changes time and never the gradient. Samples that could not be scored are left out as well.
    """
    rollouts = [(group, rollout) for group in groups for rollout in group.rollouts]
    weights = iter(reduction([rollout.num_tokens for _, rollout in rollouts], max_new_tokens))
    samples = []
    for group in groups:
        dead = skip_dead and is_dead(group.rewards)
        for rollout, own in zip(group.rollouts, advantage(group.rewards), strict=True):
            weight = next(weights)
            if dead or rollout.reward is None:
                continue
            samples.append(
                Sample(
                    token_ids=[*group.prompt.token_ids, *rollout.completion.token_ids],
                    prompt_len=len(group.prompt.token_ids),
                    weight=weight,
                    advantage=own,
                    rollout_logprobs=rollout.completion.sampling_logprobs,
                )
            )
    return samples


def fullest(groups: Sequence[Group], count: int) -> list[Group]:
    """`count` of the groups, in their order: the first that teach something, filled up with the first that do not.

    However many were drawn, a step has so many groups, and its denominators count so many.
    """
    order = sorted(range(len(groups)), key=lambda index: is_dead(groups[index].rewards))
    return [groups[index] for index in sorted(order[:count])]
