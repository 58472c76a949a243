"""Mixture of experts: a router chooses a few of many feed-forward blocks for every token.

Router: scores = softmax or sigmoid of x W^T in float32; a correction bias, where there is one, takes part in choosing
and not in weighing; weights are the chosen scores, normalised or not, times a factor. Experts: tokens are sorted by
expert and each expert multiplies its own contiguous run, so no Python loop sees a token. Balance without a loss: after
every optimizer step an expert with more than its share has its bias lowered, one with less raised (arXiv 2408.15664).

Shapes: N tokens, C hidden_size, E experts, K experts per token, I moe_intermediate_size, S = N K sorted assignments.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farthing.models.config import ModelConfig, MoEConfig
from farthing.models.layers import MLP
from farthing.models.swiglu import swiglu


class Router(nn.Module):
    """Chooses `num_experts_per_tok` experts per token. Its weight stays float32, whatever the model is loaded in."""

    def __init__(self, config: ModelConfig, moe: MoEConfig) -> None:
        super().__init__()
        self.moe = moe
        self.weight = nn.Parameter(torch.empty(moe.n_routed_experts, config.hidden_size))
        bias = torch.zeros(moe.n_routed_experts) if moe.selection_bias else None
        self.register_buffer("e_score_correction_bias", bias)
        self.register_buffer("load", torch.zeros(moe.n_routed_experts, dtype=torch.int64), persistent=False)

    def forward(self, x_NC: Tensor) -> tuple[Tensor, Tensor]:
        """(weights float [N, K], experts int64 [N, K]); counts the load while gradients are on."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        logits_NE = F.linear(x_NC.to(wide), self.weight.to(wide))
        scores_NE = logits_NE.sigmoid() if self.moe.scoring_func == "sigmoid" else logits_NE.softmax(dim=-1)
        experts_NK = choose(scores_NE.detach(), self.e_score_correction_bias, self.moe)
        weights_NK = weigh(scores_NE.gather(-1, experts_NK), self.moe)
        if torch.is_grad_enabled():
            self.load += torch.bincount(experts_NK.flatten(), minlength=self.moe.n_routed_experts)
        return weights_NK, experts_NK


def choose(scores_NE: Tensor, bias_E: Tensor | None, moe: MoEConfig) -> Tensor:
    """The experts [N, K] with the highest scores plus bias, from the best groups where experts are grouped."""
    ranked_NE = scores_NE if bias_E is None else scores_NE + bias_E
    if moe.topk_group < moe.n_group:
        grouped = ranked_NE.unflatten(-1, (moe.n_group, -1))
        best = 2 if moe.group_score == "top2" else 1
        groups = grouped.topk(best, dim=-1).values.sum(-1).topk(moe.topk_group, dim=-1).indices
        outside = torch.ones_like(grouped[..., 0], dtype=torch.bool).scatter_(-1, groups, False)
        ranked_NE = grouped.masked_fill(outside.unsqueeze(-1), moe.masked_group_score).flatten(-2)
    return ranked_NE.topk(moe.num_experts_per_tok, dim=-1).indices


def weigh(chosen_NK: Tensor, moe: MoEConfig) -> Tensor:
    """Scores of the chosen experts -> the weights of their outputs."""
    if moe.norm_topk_prob:
        total = chosen_NK.sum(dim=-1, keepdim=True)
        chosen_NK = chosen_NK / (total + moe.norm_eps).clamp(min=moe.norm_min)
    return chosen_NK * moe.routed_scaling_factor if moe.routed_scaling_factor != 1.0 else chosen_NK


class Experts(nn.Module):
    """All routed experts of one layer, stacked: `gate_up_proj` [E, 2 I, C] (gate rows first), `down_proj` [E, C, I]."""

    def __init__(self, hidden_size: int, moe: MoEConfig) -> None:
        super().__init__()
        experts, width = moe.n_routed_experts, moe.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden_size, width))
        self.views: tuple[Tensor, Tensor] | None = None
        self.adapter: nn.Module | None = None

    def publish(self, dtype: torch.dtype) -> None:
        """Make the compute copies; those of frozen weights are still good."""
        if dtype == self.gate_up_proj.dtype:
            self.views = None
        elif self.gate_up_proj.requires_grad or self.views is None or self.views[0].dtype != dtype:
            self.views = self.gate_up_proj.detach().to(dtype), self.down_proj.detach().to(dtype)

    def matrices(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Both stacks in the dtype the work is done in."""
        learns = torch.is_grad_enabled() and self.gate_up_proj.requires_grad
        if self.views is None or learns or self.views[0].dtype != dtype:
            return self.gate_up_proj.to(dtype), self.down_proj.to(dtype)
        return self.views

    def forward(self, x_NC: Tensor, weights_NK: Tensor, experts_NK: Tensor) -> Tensor:
        """Sum over each token's experts of weight times output, [N, C]."""
        chosen_S = experts_NK.flatten()
        order_S = chosen_S.argsort(stable=True)
        counts_E = torch.bincount(chosen_S, minlength=len(self.gate_up_proj))
        out_SC = self.run(x_NC[order_S // experts_NK.shape[1]], counts_E)
        back_S = torch.empty_like(order_S).scatter_(
            0, order_S, torch.arange(len(order_S), device=order_S.device)
        )
        out_NKC = out_SC[back_S].unflatten(0, experts_NK.shape)
        return (out_NKC * weights_NK.to(x_NC.dtype).unsqueeze(-1)).sum(dim=1)

    def run(self, x_SC: Tensor, counts_E: Tensor) -> Tensor:
        """Rows sorted by expert, `counts_E` of them for each, through their experts: [S, C]."""
        gate_up_EJC, down_ECI = self.matrices(x_SC.dtype)
        hidden_SJ = grouped_linear(x_SC, gate_up_EJC, counts_E)
        if self.adapter is not None:
            hidden_SJ = hidden_SJ + self.adapter.gate_up(x_SC, counts_E)
        inner_SI = swiglu(hidden_SJ)
        out_SC = grouped_linear(inner_SI, down_ECI, counts_E)
        return out_SC if self.adapter is None else out_SC + self.adapter.down(inner_SI, counts_E)


def grouped_linear(x_SC: Tensor, weights_EDC: Tensor, counts_E: Tensor) -> Tensor:
    """Row s times the transposed matrix of the expert whose run it stands in: [S, D].

    One kernel on CUDA in bfloat16, for sizes it takes (multiples of 16 bytes); elsewhere one product per expert with
    rows.
    """
    fits = x_SC.shape[1] % 8 == 0 and weights_EDC.shape[1] % 8 == 0
    if x_SC.is_cuda and x_SC.dtype == torch.bfloat16 and fits:
        ends = counts_E.cumsum(0).to(torch.int32)
        return F.grouped_mm(x_SC, weights_EDC.transpose(1, 2), offs=ends)
    runs = zip(x_SC.split(counts_E.tolist()), weights_EDC.unbind(0), strict=True)
    return torch.cat(
        [F.linear(run, weight) for run, weight in runs if len(run)]
        or [x_SC.new_zeros(0, weights_EDC.shape[1])]
    )


class MixtureOfExperts(nn.Module):
    """Routed experts, and shared experts that see every token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        moe = config.moe
        assert moe is not None
        self.gate = Router(config, moe)
        self.experts = Experts(config.hidden_size, moe)
        self.shared_experts = MLP(config.hidden_size, moe.shared_width) if moe.shared_width else None

    def forward(self, x: Tensor) -> Tensor:
        x_NC = x.reshape(-1, x.shape[-1])
        out = self.experts(x_NC, *self.gate(x_NC)).view_as(x)
        return out if self.shared_experts is None else out + self.shared_experts(x)


@torch.no_grad()
def balance(model: nn.Module, rate: float) -> dict[str, float]:
    """Call after every optimizer step: returns routing statistics of the tokens since the last call, moves each
    correction bias by `rate` towards an even load, and starts counting anew. Empty for a model without experts.

    moe/max_load: the busiest expert's share over the even share, the worst layer; moe/idle: share of experts without a
    token; moe/load_cv: standard deviation over mean of the loads, averaged over layers. b += rate sign(mean - load),
    arXiv 2408.15664, section 2.
    """
    loads = []
    for module in model.modules():
        if not isinstance(module, Router):
            continue
        load_E = module.load.double()
        if load_E.sum() > 0:
            loads.append(load_E / load_E.mean())
            if module.e_score_correction_bias is not None and rate:
                module.e_score_correction_bias += rate * (load_E.mean() - load_E).sign()
        module.load.zero_()
    if not loads:
        return {}
    relative = torch.stack(loads)
    return {
        "moe/max_load": relative.max().item(),
        "moe/idle": (relative == 0).double().mean().item(),
        "moe/load_cv": relative.std(dim=-1, correction=0).mean().item(),
    }
