"""Every algorithm against the formula of its paper worked out by hand, and against TRL's loss on the same tensors.

The example: one prompt, two samples. The first has one token and got 1, the second two tokens and got 0. All were drawn
with probability 0.4; now they have 0.6, 0.2 and 0.8, so the ratios are 3/2, 1/2 and 2. At most 4 tokens were allowed.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from farthing.algorithms.advantages import ADVANTAGES
from farthing.algorithms.losses import SURROGATES
from farthing.algorithms.presets import PRESETS
from farthing.algorithms.reduction import REDUCTIONS
from farthing.algorithms.shaping import soft_overlong
from farthing.data.sample import Sample
from farthing.learner.api import Tokens
from farthing.rollout.assemble import assemble
from farthing.rollout.types import Group
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.objective import objective

F64 = torch.float64
LIMIT = 4
NEW = [[math.log(0.6)], [math.log(0.2), math.log(0.8)]]
OLD = math.log(0.4)
# 1/2 over the standard deviation of 0 and 1, which is sqrt(1/2), plus 1e-4.
A = 0.5 / (0.5**0.5 + 1e-4)
# k3 to a reference of 0.4: x - log x - 1 for x = 2/3, 2, 1/2, averaged over each sample and then over both.
KL = ((2 / 3 - math.log(2 / 3) - 1) + ((2 - math.log(2) - 1) + (0.5 + math.log(2) - 1)) / 2) / 2

BY_HAND = {
    # -(1/2) [1.2 A + (-0.8 A - 2 A) / 2]: the first is clipped above, the second below, the third counts in full.
    "grpo": 0.1 * A,
    # Nothing is clipped: -(1/2) [1.5 A - (0.5 A + 2 A) / 2] and the divergence.
    "r1": -0.125 * A + 0.001 * KL,
    # Advantages of 1/2, divided by 2 x 4: -(1.2 - 0.8 - 2) / 2 / 8.
    "dr_grpo": 0.1,
    # Divided by three tokens, clipped at 1.28: -(1.28 - 0.8 - 2) A / 3.
    "dapo": 1.52 * A / 3,
    # Advantages of 1 over the mean of the others.
    "rloo": 0.2,
    # The second sample's ratio is sqrt(1/2 x 2) = 1; the first's is clipped: -(1/2) (1.0004 A - A).
    "gspo": -0.0002 * A,
    # Weights 3/2, 1/2 and 2 on log p: none is above 5.
    "cispo": -(1.5 * math.log(0.6) - 0.5 * math.log(0.2) - 2 * math.log(0.8)) * A / 3,
}


def loss_of(
    config: GrpoConfig, samples: list[Sample], new: list[list[float]], update: int = 1
) -> tuple[float, list[list[float]]]:
    """The step's loss, and its gradient by each token's log-probability."""
    leaves = [torch.tensor(row, dtype=F64, requires_grad=True) for row in new]
    counts = torch.tensor([len(row) for row in new])

    def joined(streams: list[list[float]]) -> Tensor:
        return torch.tensor([value for stream in streams for value in stream], dtype=F64)

    tokens = Tokens(
        torch.cat(leaves),
        torch.empty(0),
        torch.tensor([sample.advantage for sample in samples], dtype=F64).repeat_interleave(counts),
        joined([sample.rollout_logprobs for sample in samples]),
        joined([sample.ref_logprobs for sample in samples]),
        joined([sample.old_logprobs for sample in samples]),
        torch.arange(len(samples)).repeat_interleave(counts),
    )
    weights = torch.tensor([sample.weight for sample in samples], dtype=F64).repeat_interleave(counts)
    loss = (weights * objective(config, update)(tokens).loss).sum()
    loss.backward()
    return loss.item(), [leaf.grad.tolist() for leaf in leaves]


def samples_of(config: GrpoConfig, groups: list[Group], old: list[list[float]]) -> list[Sample]:
    """All samples, drawn by `old`, which is what the learner had as well."""
    args = ADVANTAGES[config.advantage], REDUCTIONS[config.loss_reduction], config.max_new_tokens
    samples = assemble(groups, *args, skip_dead=False)
    return [
        replace(sample, rollout_logprobs=own, old_logprobs=own, ref_logprobs=[OLD] * len(own))
        for sample, own in zip(samples, old, strict=True)
    ]


def config_of(name: str, **keys: Any) -> GrpoConfig:
    return GrpoConfig.model_validate({"algorithm": name, "max_new_tokens": LIMIT, **keys})


@pytest.mark.parametrize("name", [*PRESETS])
def test_by_hand(name: str, group_of: Callable[..., Group]) -> None:
    config = config_of(name)
    samples = samples_of(config, [group_of([1.0, 0.0], lengths=[1, 2])], [[OLD], [OLD, OLD]])
    assert loss_of(config, samples, NEW)[0] == pytest.approx(BY_HAND[name], rel=1e-9)


def test_a_weight_by_hand(group_of: Callable[..., Group]) -> None:
    """Drawn with 0.1, 0.4 and 0.4: the first token's weight is 4, truncated at 2; its sequence is that token."""
    rows = [[math.log(0.1)], [OLD, OLD]]
    for level in ("token", "sequence"):
        config = config_of("grpo", importance_sampling=level)
        samples = samples_of(config, [group_of([1.0, 0.0], lengths=[1, 2])], [[OLD], [OLD, OLD]])
        drawn = [replace(s, rollout_logprobs=own) for s, own in zip(samples, rows, strict=True)]
        assert loss_of(config, drawn, NEW)[0] == pytest.approx(-(2 * 1.2 - 1.4) * A / 2)


def test_the_first_update_of_auto_has_no_weights_and_every_later_one_has(
    group_of: Callable[..., Group],
) -> None:
    config = config_of("grpo")
    assert [config.correction(update) for update in range(3)] == [None, "token", "token"]
    assert config_of("grpo", importance_sampling="off").correction(1) is None
    assert config_of("gspo").correction(0) == "token", "its clip is finer than a sampler's rounding"


def test_in_the_first_update_the_learner_of_before_is_that_of_now(group_of: Callable[..., Group]) -> None:
    """No second forward pass: with weights, the ratio is 1 and its gradient that of the new log-probability."""
    config = config_of("grpo", importance_sampling="token")
    samples = samples_of(config, [group_of([1.0, 0.0], lengths=[1, 2])], NEW)
    fresh = [replace(sample, old_logprobs=[]) for sample in samples]
    assert loss_of(config, fresh, NEW, update=0) == loss_of(config, samples, NEW)


def test_the_page_has_every_algorithm_and_every_part() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")
    for name in [*PRESETS, *ADVANTAGES, *REDUCTIONS, *SURROGATES]:
        assert f"| `{name}` |" in page, name


# What TRL calls the same.
TRL: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "r1": {"loss_type": "grpo", "epsilon_low": 1.0, "epsilon_high": 10.0, "beta": 0.001},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
}  # fmt: skip


def padded(rows: list[list[float]]) -> Tensor:
    leaves = [torch.tensor(row, dtype=F64) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(leaves, batch_first=True)


def trainer_of(new: Tensor, **settings: Any) -> Any:
    """What TRL's loss reads of its trainer. The model is left out: log-probabilities are what we say they are."""
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    defaults: dict[str, Any] = {
        "epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0, "importance_sampling_level": "token",
        "max_completion_length": LIMIT, "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None,
        "use_vllm": False, "vllm_importance_sampling_correction": False, "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1, "model": SimpleNamespace(training=True), "accelerator": accelerator,
        "args": SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        "_entropy_bonus_enabled": False, "_metrics": {"train": defaultdict(list)},
        "_get_per_token_logps_and_entropies": lambda *_, **__: (new, torch.zeros_like(new), None),
    }  # fmt: skip
    return SimpleNamespace(**defaults | settings)


@pytest.fixture(scope="module")
def trl() -> Any:
    """TRL's two trainers, with the warnings that importing it gives away."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("trl", reason="TRL is not installed: pip install trl")
        from trl.rewards import get_soft_overlong_punishment
        from trl.trainer.grpo_trainer import GRPOTrainer
        from trl.trainer.rloo_trainer import RLOOTrainer
        from trl.trainer.utils import nanstd
    return SimpleNamespace(
        grpo=GRPOTrainer._compute_loss,
        rloo=RLOOTrainer._compute_loss,
        std=nanstd,
        overlong=get_soft_overlong_punishment,
    )


def rollout(
    group_of: Callable[..., Group], spread: float
) -> tuple[list[Group], list[list[float]], list[list[float]]]:
    """Two groups of four samples of 1 to 4 tokens: (groups, new, old log-probabilities), `spread` nats apart."""
    rng = random.Random(3)
    table = [[1.0, 0.0, 0.0, 0.1], [1.0, 1.0, 0.1, 0.0]]
    groups = [group_of(rewards, lengths=[rng.randint(1, LIMIT) for _ in rewards]) for rewards in table]
    lengths = [one.num_tokens for group in groups for one in group.rollouts]
    new = [[-rng.uniform(0.1, 3) for _ in range(length)] for length in lengths]
    old = [[value + rng.uniform(-spread, spread) for value in row] for row in new]
    return groups, new, old


def theirs(
    trl: Any, name: str, samples: list[Sample], new: list[list[float]], **extra: Any
) -> tuple[float, list[list[float]]]:
    """TRL's loss and its gradient by each token's log-probability."""
    leaf = padded(new).requires_grad_()
    mask = padded([[1.0] * len(row) for row in new])
    prompt = torch.ones(len(new), 1)
    inputs: dict[str, Any] = {
        "prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": mask, "completion_mask": mask,
        "advantages": torch.tensor([sample.advantage for sample in samples], dtype=F64),
        "old_per_token_logps": padded([sample.old_logprobs for sample in samples]),
        "ref_per_token_logps": padded([sample.ref_logprobs for sample in samples]),
        "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    inputs["old_logps"] = (inputs["old_per_token_logps"] * mask).sum(1)
    inputs |= extra.pop("inputs", {})
    compute = trl.rloo if name == "rloo" else trl.grpo
    loss = compute(trainer_of(leaf, **TRL.get(name, {}), **extra), None, inputs)
    loss.backward()
    return loss.item(), [leaf.grad[row, : len(own)].tolist() for row, own in enumerate(new)]


def assert_same(found: list[list[float]], expected: list[list[float]]) -> None:
    for own, other in zip(found, expected, strict=True):
        assert own == pytest.approx(other, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("name", [*TRL])
def test_trl_says_the_same(name: str, trl: Any, group_of: Callable[..., Group]) -> None:
    """Loss and gradient, off-policy, with clips that bind on some tokens; float32 advantages cost TRL nothing here."""
    groups, new, old = rollout(group_of, 6e-4 if name == "gspo" else 0.6)
    config = config_of(name)
    samples = samples_of(config, groups, old)
    loss, gradient = loss_of(config, samples, new)
    their_loss, their_gradient = theirs(trl, name, samples, new)
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert_same(gradient, their_gradient)
    clipped = [value == 0 for row in gradient for value in row]
    assert name in ("r1", "cispo") or (any(clipped) and not all(clipped)), "the example must reach the clip"


def test_on_policy_trl_has_the_same_rloo_but_for_the_constant(
    trl: Any, group_of: Callable[..., Group]
) -> None:
    """TRL clips the ratio of whole sequences, we clip by token: at ratio 1 both are REINFORCE, ours divided by 4."""
    groups, new, _ = rollout(group_of, 0.0)
    config = config_of("rloo")
    samples = samples_of(config, groups, new)
    _, gradient = loss_of(config, samples, new)
    _, their_gradient = theirs(trl, "rloo", samples, new)
    assert_same([[LIMIT * value for value in row] for row in gradient], their_gradient)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_trl_weighs_the_same(level: str, trl: Any, group_of: Callable[..., Group]) -> None:
    """Truncated importance sampling: the sampler's log-probabilities are others than the learner's of before."""
    groups, new, old = rollout(group_of, 0.6)
    config = config_of("dapo", importance_sampling=level)
    rng = random.Random(4)
    samples = [
        replace(sample, rollout_logprobs=[value + rng.uniform(-1, 1) for value in sample.old_logprobs])
        for sample in samples_of(config, groups, old)
    ]
    gap = padded([sample.old_logprobs for sample in samples]) - padded([s.rollout_logprobs for s in samples])
    ratio = torch.exp(gap.sum(-1, keepdim=True) if level == "sequence" else gap)
    given = {"importance_sampling_ratio": ratio.clamp(max=2.0)}
    assert (ratio > 2).any() and (ratio < 2).any()
    settings = {"use_vllm": True, "vllm_importance_sampling_correction": True}
    their_loss, their_gradient = theirs(trl, "dapo", samples, new, inputs=given, **settings)
    loss, gradient = loss_of(config, samples, new)
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert_same(gradient, their_gradient)


def test_trl_compares_rewards_the_same(trl: Any) -> None:
    """The trainer's line is (r - mean) / (std + 1e-4) with its own std, which it has as a function."""
    rewards = torch.tensor([1.0, 0.0, 0.1, 0.0], dtype=F64)
    expected = (rewards - rewards.mean()) / (trl.std(rewards) + 1e-4)
    assert ADVANTAGES["zscore"](rewards.tolist()) == pytest.approx(expected.tolist(), rel=1e-6)


def test_trl_punishes_length_the_same(trl: Any) -> None:
    punish = trl.overlong(max_completion_len=20, soft_punish_cache=5)
    lengths = range(1, 30)
    expected = punish(completion_ids=[[0] * length for length in lengths])
    assert [soft_overlong(length, 20, 5) for length in lengths] == pytest.approx(expected)
