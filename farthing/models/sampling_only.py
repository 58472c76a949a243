"""Models that only sample: their projections stand in the layout that they are multiplied from, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from farthing.models.decoder import Decoder
from farthing.models.layers import Linear, Projection
from farthing.models.packed import StripsLinear, suits_strips


def pack(model: Decoder) -> Decoder:
    """Bfloat16 projections become strips, which take their place; the model itself is changed. It stays what it is
    where strips are not to be had: on other processors, in other dtypes, with experts, latent attention or adapters."""
    projections = [module for module in model.model.layers.modules() if isinstance(module, Linear)]
    is_plain = model.config.moe is None and model.config.mla is None
    if is_plain and all(_can_be_packed(linear) for linear in projections):
        replace_projections(model, StripsLinear, torch.bfloat16)
    return model


def _can_be_packed(linear: Linear) -> bool:
    weight = linear.weight
    is_cpu_bfloat16 = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return is_cpu_bfloat16 and linear.adapter is None and suits_strips(*weight.shape)


def replace_projections(
    model: Decoder, make: Callable[[Tensor, Tensor | None], nn.Module], dtype: torch.dtype
) -> None:
    """Put `make(weight, bias)` in the place of every projection of the layers; those of one input become one, joined in
    `dtype`. What they were is given back."""
    for module in [module for module in model.model.layers.modules() if not isinstance(module, Linear)]:
        _replace_fused(module, make, dtype)
        for name, child in list(module.named_children()):
            if isinstance(child, Linear) and child.weight.numel():
                setattr(module, name, make(child.weight, child.bias))


def _replace_fused(
    module: nn.Module, make: Callable[[Tensor, Tensor | None], nn.Module], dtype: torch.dtype
) -> None:
    for name, fused in list(vars(module).items()):
        if not isinstance(fused, Projection):
            continue
        setattr(module, name, make(*fused.joined(dtype)))
        for part in fused.parts:
            give_up(part)


def give_up(linear: Linear) -> None:
    """Nothing is left but the dtype."""
    linear.weight = nn.Parameter(linear.weight.new_empty(0, linear.weight.shape[1]), requires_grad=False)
    linear.bias = None
