"""Which parameter is moved by which optimizer: Muon for hidden matrices, AdamW for the rest; none is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from farthing.errors import FarthingError


@dataclass(frozen=True)
class OptimSettings:
    """Peak rates and decay; `optimizer` "adamw" moves everything with AdamW. `bias_update_speed` is for the correction
    biases of experts, which no gradient moves."""

    optimizer: str = "adamw"
    lr: float = 1e-3
    muon_lr: float = 0.02
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    bias_update_speed: float = 0.0


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Muon is for matrices between hidden states: not embeddings, not the head, not gains or biases."""
    return parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name


def moving(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that a step can change, by name: parameters that are not frozen, and buffers that persist."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


class Optimizers:
    """AdamW and Muon side by side, as one."""

    def __init__(self, model: nn.Module, settings: OptimSettings) -> None:
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        muon = {n: p for n, p in named.items() if settings.optimizer == "muon" and is_hidden_matrix(n, p)}
        adamw = {n: p for n, p in named.items() if n not in muon}
        if len(muon) + len(adamw) != len(named):
            raise FarthingError("a parameter belongs to no optimizer")
        self.settings, self.named = settings, named
        self.peaks: list[tuple[torch.optim.Optimizer, float]] = []
        if adamw:
            decayed = [p for p in adamw.values() if p.ndim >= 2]
            plain = [p for p in adamw.values() if p.ndim < 2]
            groups = [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ]
            groups = [group for group in groups if group["params"]]
            self.peaks.append(
                (torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=1e-10), settings.lr)
            )
        if muon:
            optimizer = torch.optim.Muon(
                muon.values(), lr=settings.muon_lr, weight_decay=settings.weight_decay, momentum=0.95
            )
            self.peaks.append((optimizer, settings.muon_lr))

    def step(self, scale: float) -> None:
        """One update at `scale` times the peak rates; gradients are dropped afterwards."""
        for optimizer, peak in self.peaks:
            for group in optimizer.param_groups:
                group["lr"] = peak * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Every optimizer tensor by "<parameter>.<slot>", for the checkpoint."""
        tensors = {}
        for name, parameter in self.named.items():
            for optimizer, _ in self.peaks:
                for slot, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{name}.{slot}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        owner = {
            id(p): optimizer
            for optimizer, _ in self.peaks
            for g in optimizer.param_groups
            for p in g["params"]
        }
        for key, value in tensors.items():
            name, _, slot = key.rpartition(".")
            if name not in self.named:
                raise FarthingError(f"optimizer state for {name}, which the model does not have")
            parameter = self.named[name]
            owner[id(parameter)].state[parameter][slot] = value.clone()
