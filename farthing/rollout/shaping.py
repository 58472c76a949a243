"""What a reward is given beside the verdict, before groups are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from farthing.algorithms.shaping import soft_overlong
from farthing.rollout.types import Group, Rollout


def soften_limit(groups: Sequence[Group], max_new_tokens: int, share: float, penalty: float) -> list[Group]:
    """The groups with `penalty` x the soft limit added to every reward, also kept as the part "overlong".

    The limit begins `share` of max_new_tokens before it; 0 leaves everything as it is. A sample that was cut off counts
    as being of full length, also where it was for want of room. One that could not be scored stays so.
    """
    if not share:
        return list(groups)

    def shaped(rollout: Rollout) -> Rollout:
        length = max_new_tokens if rollout.is_truncated else rollout.num_tokens
        overlong = soft_overlong(length, max_new_tokens, share * max_new_tokens)
        score = replace(rollout.score, parts={**rollout.score.parts, "overlong": overlong})
        reward = None if rollout.reward is None else rollout.reward + penalty * overlong
        return replace(rollout, score=score, reward=reward)

    return [replace(group, rollouts=tuple(shaped(one) for one in group.rollouts)) for group in groups]
