"""Mixtures of experts: whom the router chooses, what the experts compute, how the load is balanced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models.checkpoint import load_model
from farthing.models.config import ModelConfig, MoEConfig
from farthing.models.decoder import Decoder, initialise
from farthing.models.moe import Experts, MixtureOfExperts, Router, balance, choose, weigh

Theirs = Callable[[str], tuple[Any, Path]]
ROUTED = [
    "qwen3_moe",
    "qwen3_moe-mixed",
    "deepseek_v2-lite",
    "deepseek_v2-groups",
    "deepseek_v3",
    "deepseek_v3-plain",
    "deepseek_v3-yarn",
    "ernie4_5_moe",
    "ernie4_5_moe-sparse",
]
GROUPED = MoEConfig(
    16,
    4,
    8,
    scoring_func="sigmoid",
    selection_bias=True,
    norm_topk_prob=True,
    norm_eps=1e-20,
    n_group=4,
    topk_group=2,
    group_score="top2",
)


def ranked_gap(scores: Tensor, chosen: int) -> Tensor:
    """How far the last chosen is above the first that is not, per token."""
    ordered = scores.sort(dim=-1, descending=True).values
    return ordered[:, chosen - 1] - ordered[:, chosen]


@pytest.mark.parametrize("routed", ROUTED)
@torch.no_grad()
def test_routers_decide_as_those_of_transformers(routed: str, theirs: Theirs) -> None:
    their_model, directory = theirs(routed)
    our_model, _ = load_model(directory)
    routers = {name: module for name, module in our_model.named_modules() if isinstance(module, Router)}
    assert routers
    x = torch.randn(600, our_model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    for name, router in routers.items():
        _, their_weights, their_experts = their_model.get_submodule(name)(x)
        our_weights, our_experts = router(x)
        scores = F.linear(x, router.weight)
        scores = scores.sigmoid() if router.moe.scoring_func == "sigmoid" else scores.softmax(-1)
        biased = scores if router.e_score_correction_bias is None else scores + router.e_score_correction_bias
        clear = ranked_gap(biased, router.moe.num_experts_per_tok) > 1e-6
        assert clear.float().mean() > 0.9
        ours, theirs_ = (
            dense(e, w, scores.shape[1])
            for e, w in ((our_experts, our_weights), (their_experts, their_weights))
        )
        assert torch.equal(ours[clear] > 0, theirs_[clear] > 0)
        torch.testing.assert_close(ours[clear], theirs_[clear], rtol=1e-5, atol=1e-7)


def dense(experts: Tensor, weights: Tensor, count: int) -> Tensor:
    """Weights [N, E], zero where an expert was not chosen."""
    return torch.zeros(len(experts), count).scatter_(-1, experts, weights.float())


def choose_slowly(scores: list[float], bias: list[float], moe: MoEConfig) -> set[int]:
    """The rule of DeepSeek-V3 for one token, spelled out (arXiv 2412.19437, section 2.1.2): the chosen experts of the
    best groups. Which ones fill the rest, should masked experts win, is a tie."""
    ranked = [score + b for score, b in zip(scores, bias, strict=True)]
    size = len(ranked) // moe.n_group
    groups = [range(g * size, (g + 1) * size) for g in range(moe.n_group)]
    best = sorted(groups, key=lambda g: -sum(sorted((ranked[e] for e in g), reverse=True)[:2]))[
        : moe.topk_group
    ]
    inside = {e for group in best for e in group}
    masked = [ranked[e] if e in inside else moe.masked_group_score for e in range(len(ranked))]
    return inside & set(sorted(range(len(ranked)), key=lambda e: -masked[e])[: moe.num_experts_per_tok])


@pytest.mark.parametrize("masked", [float("-inf"), 0.0])
def test_masked_groups_lose_with_minus_infinity_and_may_win_with_zero(masked: float) -> None:
    moe = dataclasses.replace(GROUPED, masked_group_score=masked)
    generator = torch.Generator().manual_seed(5)
    scores = torch.rand(200, 16, generator=generator)
    bias = torch.rand(16, generator=generator) - 1.0
    chosen = choose(scores, bias, moe)
    expected = [choose_slowly(row.tolist(), bias.tolist(), moe) for row in scores]
    assert all(wanted <= set(row.tolist()) for row, wanted in zip(chosen, expected, strict=True))
    strangers = sum(4 - len(wanted) for wanted in expected)
    assert (strangers > 0) is (masked == 0.0)


def test_the_authors_mask_is_the_default() -> None:
    assert MoEConfig(4, 2, 8).masked_group_score == float("-inf")


def test_weights_come_from_scores_without_bias() -> None:
    chosen = torch.tensor([[0.3, 0.1]])
    torch.testing.assert_close(weigh(chosen, GROUPED), torch.tensor([[0.75, 0.25]]))
    plain = MoEConfig(4, 2, 8, routed_scaling_factor=16.0)
    torch.testing.assert_close(weigh(chosen, plain), 16 * chosen)
    floored = MoEConfig(4, 2, 8, norm_topk_prob=True, norm_min=1e-12)
    assert torch.equal(weigh(torch.zeros(1, 2), floored), torch.zeros(1, 2))


@pytest.mark.parametrize("tokens", [1, 7, 64])
def test_experts_compute_what_a_loop_over_tokens_would(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    experts = Experts(12, MoEConfig(6, 3, 10)).double()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    x = torch.randn(tokens, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(tokens, 3, generator=generator, dtype=torch.float64)
    chosen = torch.stack([torch.randperm(6, generator=generator)[:3] for _ in range(tokens)])
    expected = torch.stack(
        [
            sum(weights[n, k] * one_expert(experts, int(chosen[n, k]), x[n]) for k in range(3))
            for n in range(tokens)
        ]
    )
    found = experts(x, weights, chosen)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected.square().sum(), [x, *experts.parameters()])
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), [x, *experts.parameters()]), wanted)


def one_expert(experts: Experts, expert: int, x: Tensor) -> Tensor:
    gate, up = (experts.gate_up_proj[expert] @ x).chunk(2)
    return experts.down_proj[expert] @ (F.silu(gate) * up)


def test_no_python_loop_sees_a_token() -> None:
    """Ten times the tokens are the same number of operations."""
    config = ModelConfig(50, 16, 20, 1, 2, 1, 8, moe=MoEConfig(4, 2, 8, n_shared_experts=1))
    block = MixtureOfExperts(config)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)

    def operations(tokens: int) -> int:
        from torch.utils._python_dispatch import TorchDispatchMode

        class Counter(TorchDispatchMode):
            count = 0

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                self.count += 1
                return func(*args, **(kwargs or {}))

        with Counter() as counter:
            block(torch.randn(tokens, 16))
        return counter.count

    assert operations(1000) == operations(100)


def sparse_model() -> Decoder:
    moe = MoEConfig(
        8, 2, 16, scoring_func="sigmoid", selection_bias=True, norm_topk_prob=True, norm_eps=1e-20
    )
    config = ModelConfig(64, 32, 48, 2, 4, 4, 8, moe=moe, model_type="deepseek_v3", initializer_range=0.3)
    return initialise(Decoder(config), 0)


def test_balancing_evens_the_load_without_a_gradient() -> None:
    model = sparse_model()
    ids = torch.randint(0, 64, (8, 64), generator=torch.Generator().manual_seed(0))
    history = []
    for _ in range(150):
        model(ids)
        history.append(balance(model, 0.01))
    assert history[0]["moe/max_load"] > 1.4
    assert history[-1]["moe/max_load"] - 1 < 0.4 * (history[0]["moe/max_load"] - 1)
    assert history[-1]["moe/load_cv"] < 0.4 * history[0]["moe/load_cv"]
    bias = model.model.layers[0].mlp.gate.e_score_correction_bias
    assert not bias.requires_grad and bias.abs().max() > 0


def test_only_learning_is_counted() -> None:
    model = sparse_model()
    with torch.no_grad():
        model(torch.zeros(1, 4, dtype=torch.int64))
    assert balance(model, 0.01) == {}
    model(torch.zeros(1, 4, dtype=torch.int64))
    assert model.model.layers[0].mlp.gate.load.sum() == 8
    stats = balance(model, 0.0)
    assert stats["moe/idle"] == 0.75 and stats["moe/max_load"] == 4.0
    assert model.model.layers[0].mlp.gate.load.sum() == 0
    assert model.model.layers[0].mlp.gate.e_score_correction_bias.abs().max() == 0


def test_a_model_without_experts_has_no_statistics() -> None:
    assert balance(Decoder(ModelConfig(50, 16, 20, 1, 2, 1, 8)), 0.1) == {}
