"""Gradient invariance of every algorithm: whatever the learner does to go through a batch, the gradient is the paper's.

The oracle takes each completion alone through the plain model in float64, without padding, micro-batches, flat rows,
weights or skipping, and writes the paper's formula down over it. In float64 the two agree to FLOAT64_BOUND of a
parameter's largest entry, in float32 to FLOAT32_BOUND; docs/algorithms.md quotes the latter.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from farthing.algorithms.advantages import ADVANTAGES
from farthing.algorithms.presets import PRESETS
from farthing.algorithms.reduction import REDUCTIONS
from farthing.data.sample import Sample
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.decoder import Decoder
from farthing.rollout.assemble import assemble
from farthing.rollout.shaping import soften_limit
from farthing.rollout.types import Group, Rollout
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.objective import objective

FLOAT64_BOUND = 1e-10
FLOAT32_BOUND = 2e-5
LIMIT = 40
Grads = dict[str, Tensor]

# The presets, and what else a stage may be told that reaches the gradient.
CASES: dict[str, dict[str, Any]] = {
    **{name: {"algorithm": name} for name in PRESETS},
    # Sampler and learner are far apart here: a clip that holds some sequences and not all.
    "gspo": {"algorithm": "gspo", "clip_low": 0.1, "clip_high": 0.1},
    "grpo, weights by token": {"algorithm": "grpo", "importance_sampling": "token"},
    "dapo, weights by sequence": {"algorithm": "dapo", "importance_sampling": "sequence"},
    "gspo with a reference": {"algorithm": "gspo", "clip_low": 0.1, "clip_high": 0.1, "kl_coef": 0.1},
}
# Alive and dead groups, samples that could not be scored, of all lengths; two groups ask the same.
TABLE: list[list[float | None]] = [
    [1.0, 0.0, 0.1],
    [1.0, 1.0],
    [0.0, None, 0.0],
    [0.1, 1.0, None, 0.0],
    [None, 0.5],
]


def config_of(case: str) -> GrpoConfig:
    return GrpoConfig.model_validate({"max_new_tokens": LIMIT, **CASES[case]})


def logprobs_alone(model: Decoder, prompt: list[int], completion: list[int]) -> Tensor:
    """Log-probabilities of a completion's tokens, by the model as anyone would call it."""
    ids = torch.tensor([prompt + completion])
    return model(ids)[0].log_softmax(-1)[len(prompt) - 1 : -1].gather(-1, ids[0, len(prompt) :, None])[:, 0]


@pytest.fixture
def groups(fresh_model: Callable[[], Decoder], group_of: Callable[..., Group]) -> list[Group]:
    """Completions with log-probabilities near the fresh model's, as of a sampler some updates ago."""
    model, rng, made = fresh_model().double(), random.Random(5), []
    for index, rewards in enumerate(TABLE):
        lengths = [rng.randint(1, LIMIT) for _ in rewards]
        group = group_of(rewards, lengths=lengths, prompt_tokens=3 + 6 * (index // 2))
        rollouts = []
        for rollout in group.rollouts:
            ids = [rng.randrange(300) for _ in range(rollout.num_tokens)]
            with torch.no_grad():
                near = logprobs_alone(model, [*group.prompt.token_ids], ids)
            drawn = [value - rng.gauss(0.02, 0.4) for value in near.tolist()]
            completion = replace(rollout.completion, token_ids=ids, sampling_logprobs=drawn)
            rollouts.append(replace(rollout, completion=completion))
        made.append(replace(group, rollouts=tuple(rollouts)))
    return made


def before(rollout: Rollout) -> list[float]:
    """What the learner had before its first update on the rollout: near the sampler's."""
    return [value + 0.3 * (-1) ** index for index, value in enumerate(rollout.completion.sampling_logprobs)]


def reference(rollout: Rollout) -> list[float]:
    return [value - 0.1 for value in rollout.completion.sampling_logprobs]


def shaped(groups: list[Group], config: GrpoConfig) -> list[Group]:
    return soften_limit(groups, LIMIT, config.overlong_share, config.overlong_penalty)


def paper(model: Decoder, groups: list[Group], config: GrpoConfig) -> Grads:
    """The gradient of minus the paper's objective, a formula over whole completions."""
    model.zero_grad(set_to_none=True)
    everyone = [rollout for group in groups for rollout in group.rollouts]
    total = torch.zeros((), dtype=next(model.parameters()).dtype)
    for group in groups:
        for rollout, advantage in zip(group.rollouts, compared(group.rewards, config), strict=True):
            if advantage is None:
                continue
            new = logprobs_alone(model, [*group.prompt.token_ids], rollout.completion.token_ids)
            sampled = new.new_tensor(rollout.completion.sampling_logprobs)
            weighs = config.importance_sampling != "off"
            old = new.new_tensor(before(rollout)) if weighs else sampled
            gain = objective_of(config, new, old, advantage)
            if weighs:
                apart = (old - sampled).sum() if config.importance_sampling == "sequence" else old - sampled
                gain = gain * apart.exp().clamp(max=2.0)
            if config.kl_coef:
                away = new.new_tensor(reference(rollout)) - new
                gain = gain - config.kl_coef * (away.exp() - away - 1)
            total = total - summed(gain, config, everyone)
    total.backward()
    gradient = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return gradient


def compared(rewards: list[float | None], config: GrpoConfig) -> list[float | None]:
    """Advantages, None for what could not be scored."""
    known = [reward for reward in rewards if reward is not None]
    if len(known) < 2:
        return [None if reward is None else 0.0 for reward in rewards]

    def one(reward: float) -> float:
        mean = statistics.fmean(known)
        if config.algorithm == "rloo":
            return reward - (sum(known) - reward) / (len(known) - 1)
        return (
            reward - mean
            if config.algorithm == "dr_grpo"
            else (reward - mean) / (statistics.stdev(known) + 1e-4)
        )

    return [None if reward is None else one(reward) for reward in rewards]


def objective_of(config: GrpoConfig, new: Tensor, old: Tensor, advantage: float) -> Tensor:
    """What each token of a completion adds, before it is averaged."""
    low, high = 1 - config.clip_low, 1 + config.clip_high
    if config.algorithm == "cispo":
        return (new - old).exp().clamp(low, high).detach() * advantage * new
    ratio = (new - old).exp()
    if config.algorithm == "gspo":
        ratio = (new - old).mean().exp().expand(len(new))
    return torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)


def summed(gain: Tensor, config: GrpoConfig, everyone: list[Rollout]) -> Tensor:
    """A completion's share in the mean over all of them."""
    if config.algorithm in ("grpo", "r1", "gspo"):
        return gain.mean() / len(everyone)
    if config.algorithm in ("dapo", "cispo"):
        return gain.sum() / sum(rollout.num_tokens for rollout in everyone)
    return gain.sum() / (len(everyone) * LIMIT)


def samples_of(groups: list[Group], config: GrpoConfig, skip_dead: bool) -> list[Sample]:
    """What the stage would give to its learner in a second update."""
    args = ADVANTAGES[config.advantage], REDUCTIONS[config.loss_reduction], LIMIT
    rollouts = {id(r.completion.sampling_logprobs): r for group in groups for r in group.rollouts}
    samples = []
    for row in assemble(groups, *args, skip_dead=skip_dead):
        rollout = rollouts[id(row.rollout_logprobs)]
        old = before(rollout) if config.correction(1) else []
        samples.append(replace(row, old_logprobs=old, ref_logprobs=reference(rollout)))
    return samples


def learnt(model: Decoder, samples: list[Sample], config: GrpoConfig, budget: int) -> Grads:
    """The gradient of one update that is not carried out."""
    learner = LocalLearner(model, OptimSettings(clip_norm=1e30), microbatch_tokens=budget)
    gradient: Grads = {}

    def keep(scale: float) -> None:
        gradient.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        model.zero_grad(set_to_none=True)

    learner.optimizers.step = keep  # type: ignore[method-assign]
    learner.step(samples, objective(config, update=1))
    return gradient


def apart(one: Grads, other: Grads) -> float:
    """The largest difference, relative to the largest entry of its parameter."""
    assert one.keys() == other.keys() and one
    scale = {name: max(other[name].double().abs().max().item(), 1e-30) for name in other}
    return max((one[n].double() - other[n].double()).abs().max().item() / scale[n] for n in one)


def second_update(case: str) -> GrpoConfig:
    """The configuration with what "auto" comes to in a second update written out, for the oracle."""
    config = config_of(case)
    return config.model_copy(update={"importance_sampling": config.correction(1) or "off"})


Stage = tuple[GrpoConfig, list[Group], Grads]


@pytest.fixture(params=[*CASES])
def problem(request: pytest.FixtureRequest, groups: list[Group], fresh_model: Callable[[], Decoder]) -> Stage:
    """(configuration, judged groups, the gradient that has to come out)."""
    config = second_update(request.param)
    batch = shaped(groups, config)
    return config, batch, paper(fresh_model().double(), batch, config)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.randoms(use_true_random=False), budget=st.sampled_from([1, 48, 100, 8192]), skip=st.booleans()
)
def test_any_order_any_split_skipped_or_not(
    order: random.Random, budget: int, skip: bool, problem: Stage, fresh_model: Callable[[], Decoder]
) -> None:
    config, batch, expected = problem
    samples = samples_of(batch, config, skip_dead=skip and config.skip_dead_groups)
    order.shuffle(samples)
    assert apart(learnt(fresh_model().double(), samples, config, budget), expected) < FLOAT64_BOUND


def test_the_float32_bound(problem: Stage, fresh_model: Callable[[], Decoder]) -> None:
    config, batch, expected = problem
    samples = samples_of(batch, config, skip_dead=config.skip_dead_groups)
    for budget, rows in ((100, samples[::-1]), (8192, samples)):
        assert apart(learnt(fresh_model(), rows, config, budget), expected) < FLOAT32_BOUND


def test_the_oracle_notices(problem: Stage, fresh_model: Callable[[], Decoder]) -> None:
    """Samples left out, or told to weigh a little more, are another gradient; and so is another clip."""
    config, batch, expected = problem
    samples = samples_of(batch, config, skip_dead=False)
    assert apart(learnt(fresh_model().double(), samples[1:-3], config, 8192), expected) > 1e-3
    heavier = [replace(sample, weight=1.01 * sample.weight) for sample in samples]
    assert apart(learnt(fresh_model().double(), heavier, config, 8192), expected) > 1e-3
    tighter = config.model_copy(update={"clip_high": 1e-6, "clip_low": 1e-6})
    assert apart(learnt(fresh_model().double(), samples, tighter, 8192), expected) > 1e-3
