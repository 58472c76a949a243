"""From judged groups to training samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.algorithms.advantages import ADVANTAGES, Rewards, is_dead, mean_only, zscore
from farthing.algorithms.reduction import REDUCTIONS, sequence_mean, token_mean
from farthing.engine.api import Completion
from farthing.rollout.assemble import assemble
from farthing.rollout.types import Group, Prompt, Rollout
from farthing.tasks.task import Score


def group(rewards: Rewards, first: int = 0) -> Group:
    """Sample k has k + 1 tokens, all of value `first` + k."""
    rollouts = []
    for k, reward in enumerate(rewards):
        ids = [first + k] * (k + 1)
        completion = Completion(str(k), ids, [-2.0] * (k + 1), [-1.0 - k] * (k + 1), "stop", 0)
        rollouts.append(Rollout(completion, "", Score(reward), reward))
    return Group(Prompt({}, (90, 91, 92), "", ""), tuple(rollouts))


def test_samples_by_hand() -> None:
    alive, dead = group([1.0, 0.0, None]), group([0.5, 0.5], first=10)
    samples = assemble([alive, dead], mean_only, token_mean, 64, skip_dead=True)
    assert [sample.token_ids for sample in samples] == [[90, 91, 92, 0], [90, 91, 92, 1, 1]]
    assert [sample.advantage for sample in samples] == [0.5, -0.5]
    assert [sample.rollout_logprobs for sample in samples] == [[-1.0], [-2.0, -2.0]], "what the sampler saw"
    assert all(sample.prompt_len == 3 and not sample.ref_logprobs for sample in samples)
    # 1 + 2 + 3 tokens of the first group and 1 + 2 of the second: all count, trained on or not.
    assert [sample.weight for sample in samples] == pytest.approx([1 / 9, 1 / 9])


def test_dead_groups_stay_where_their_gradient_is_not_zero() -> None:
    samples = assemble([group([0.5, 0.5])], zscore, sequence_mean, 64, skip_dead=False)
    assert [sample.advantage for sample in samples] == [0.0, 0.0]
    assert [sample.weight for sample in samples] == pytest.approx([1 / 2, 1 / 4])


def test_nothing_to_learn_from_is_an_empty_batch() -> None:
    assert (
        assemble([group([1.0, 1.0]), group([None, 0.0]), group([None])], zscore, token_mean, 64, True) == []
    )
    assert assemble([], zscore, token_mean, 64, True) == []


rewards = st.lists(st.none() | st.sampled_from([0.0, 0.1, 1.0]), min_size=1, max_size=5)


@given(
    st.lists(rewards, min_size=1, max_size=5), st.sampled_from([*ADVANTAGES]), st.sampled_from([*REDUCTIONS])
)
def test_skipping_leaves_every_other_sample_as_it_was(
    table: list[Rewards], advantage: str, reduction: str
) -> None:
    """Same weights, same advantages; what is left out has advantage 0 or no score."""
    groups = [group(own, 10 * index) for index, own in enumerate(table)]
    args = (ADVANTAGES[advantage], REDUCTIONS[reduction], 64)
    everything = assemble(groups, *args, skip_dead=False)
    kept = assemble(groups, *args, skip_dead=True)
    assert [sample for sample in everything if sample in kept] == kept
    assert all(abs(sample.advantage) < 1e-9 for sample in everything if sample not in kept)
    assert len(everything) == sum(reward is not None for own in table for reward in own)
    alive = [own for own in table if not is_dead(own)]
    assert len(kept) == sum(reward is not None for own in alive for reward in own)
