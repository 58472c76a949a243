"""Low-rank adapters: a frozen model learns through small matrices beside its large ones (arXiv 2106.09685, 4.1).

    y = x W^T + scale x A^T B^T,   A [r, in], B [out, r],  scale = alpha / r (alpha / sqrt(r) with use_rslora)

Adapters stay beside the weights, in engine and learner alike; `merged` makes a copy in which they are one. On disk they
have PEFT's format, so that PEFT and vLLM read ours and we read theirs. Experts have an adapter each, stacked in memory.

Shapes: E experts, r rank, C hidden_size, I moe_intermediate_size, S tokens sorted by expert.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farthing.errors import UserError
from farthing.models.decoder import Decoder
from farthing.models.layers import Linear
from farthing.models.moe import Experts, grouped_linear

ATTENTION = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "q_a_proj",
    "q_b_proj",
    "kv_a_proj_with_mqa",
    "kv_b_proj",
)
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
PARTS = ("gate", "up", "down")


@dataclass(frozen=True)
class LoraConfig:
    """Which projections are adapted and how. Field names are PEFT's; `experts` adapts every routed expert as well."""

    r: int = 16
    lora_alpha: float = 32.0
    target_modules: tuple[str, ...] = ATTENTION + FEED_FORWARD
    experts: bool = False
    use_rslora: bool = False

    def scale(self, rank: int) -> float:
        return self.lora_alpha / (math.sqrt(rank) if self.use_rslora else rank)


class LowRank(nn.Module):
    """The adapter of one projection."""

    def __init__(self, size_in: int, size_out: int, rank: int, scale: float) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.empty(rank, size_in))
        self.lora_B = nn.Parameter(torch.zeros(size_out, rank))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype)) * self.scale

    def product(self) -> Tensor:
        """What it adds to the weight, [out, in]."""
        return self.lora_B @ self.lora_A * self.scale


class ExpertLowRank(nn.Module):
    """The adapters of all experts of a layer, stacked: A [E, r, in], B [E, out, r] for gate, up and down."""

    def __init__(self, experts: Experts, rank: int, scale: float) -> None:
        super().__init__()
        count, hidden, width = experts.down_proj.shape
        sizes = {"gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}
        for part, (size_in, size_out) in sizes.items():
            self.register_parameter(f"{part}_lora_A", nn.Parameter(torch.empty(count, rank, size_in)))
            self.register_parameter(f"{part}_lora_B", nn.Parameter(torch.zeros(count, size_out, rank)))
        self.scale = scale

    def _change(self, part: str, x_S: Tensor, counts_E: Tensor) -> Tensor:
        down, up = getattr(self, f"{part}_lora_A"), getattr(self, f"{part}_lora_B")
        inner = grouped_linear(x_S, down.to(x_S.dtype), counts_E)
        return grouped_linear(inner, up.to(x_S.dtype), counts_E) * self.scale

    def gate_up(self, x_SC: Tensor, counts_E: Tensor) -> Tensor:
        """What is added to the gate and up projections, [S, 2 I]."""
        return torch.cat([self._change("gate", x_SC, counts_E), self._change("up", x_SC, counts_E)], dim=-1)

    def down(self, x_SI: Tensor, counts_E: Tensor) -> Tensor:
        """What is added to the down projection, [S, C]."""
        return self._change("down", x_SI, counts_E)

    def product(self, part: str) -> Tensor:
        """What is added to the weights of one part, [E, out, in]."""
        return getattr(self, f"{part}_lora_B") @ getattr(self, f"{part}_lora_A") * self.scale


def adapt(model: Decoder, config: LoraConfig, seed: int = 0) -> Decoder:
    """Freeze `model` and put adapters beside its projections; it computes what it computed before, B being zero.

    Raises UserError where nothing in the model is meant by `target_modules`.
    """
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    count = 0
    for _, module in meant(model, config):
        if isinstance(module, Experts):
            module.adapter = ExpertLowRank(module, config.r, config.scale(config.r))
        else:
            rows, columns = module.weight.shape
            module.adapter = LowRank(columns, rows, config.r, config.scale(config.r))
        count += 1
        initialise_adapter(module.adapter, generator)
        module.adapter.to(next(module.parameters()).device)
    if not count:
        raise UserError(f"target_modules {list(config.target_modules)} name no projection of this model")
    return model


def targets(model: Decoder) -> Iterator[tuple[str, Linear | Experts]]:
    """Every projection that can have an adapter, by its name; modules that predict further tokens are left alone."""
    for name, module in model.named_modules():
        if isinstance(module, Linear | Experts) and name.startswith("model.layers."):
            yield name, module


def meant(model: Decoder, config: LoraConfig) -> Iterator[tuple[str, Linear | Experts]]:
    """The projections that `config` asks for."""
    for name, module in targets(model):
        if (
            config.experts
            if isinstance(module, Experts)
            else name.rpartition(".")[2] in config.target_modules
        ):
            yield name, module


@torch.no_grad()
def initialise_adapter(adapter: nn.Module, generator: torch.Generator) -> None:
    """A uniform within 1 / sqrt(in), as PEFT; B stays zero."""
    for name, parameter in adapter.named_parameters():
        if name.endswith("lora_A"):
            bound = parameter.shape[-1] ** -0.5
            parameter.uniform_(-bound, bound, generator=generator)


def adapted(model: Decoder) -> list[tuple[str, Linear | Experts]]:
    """The projections that have an adapter."""
    return [(name, module) for name, module in targets(model) if module.adapter is not None]


def is_adapted_by(model: Decoder, config: LoraConfig) -> bool:
    """Whether the adapters of `model` are those that `adapt` would make: at the same places, of the same size."""
    own = adapted(model)
    sizes = {
        (next(m.adapter.parameters()).shape[-2], m.adapter.scale) for _, m in own if m.adapter is not None
    }
    return [name for name, _ in own] == [name for name, _ in meant(model, config)] and sizes == {
        (config.r, config.scale(config.r))
    }


def merged(model: Decoder) -> Decoder:
    """A copy of the model in which every adapter has become part of its weight; the model itself stays as it is."""
    whole = copy.deepcopy(model)
    with torch.no_grad():
        for _, module in adapted(whole):
            adapter: Any = module.adapter
            if isinstance(module, Experts):
                gate_up = torch.cat([adapter.product("gate"), adapter.product("up")], dim=1)
                module.gate_up_proj += gate_up.to(module.gate_up_proj.dtype)
                module.down_proj += adapter.product("down").to(module.down_proj.dtype)
            else:
                module.weight += adapter.product().to(module.weight.dtype)
            module.adapter = None
    whole.requires_grad_(True)
    whole.publish(whole.compute_dtype)
    return whole
