"""Weights of 8 bits for serving: a quarter of the memory of float32, and products of whole numbers (`whole.py`).

Norms and the embedding keep their own precision.
"""

from __future__ import annotations

import torch
from torch import nn

from farthing.errors import CheckpointError
from farthing.models.decoder import Decoder
from farthing.models.layers import FusedLinears, Linear
from farthing.models.whole import Int8Linear


def quantise(model: Decoder) -> Decoder:
    """Replace every projection of the layers, and the head, by 8 bits; for sampling only. The model itself is changed.

    Raises CheckpointError for experts, latent attention and adapters.
    """
    if model.config.moe is not None or model.config.mla is not None:
        raise CheckpointError(
            f"int8: {model.config.model_type} has experts or latent attention; only other models are quantised"
        )
    if any(".adapter." in name for name, _ in model.named_parameters()):
        raise CheckpointError("int8: the model has an adapter; export a merged copy first")
    for module in [module for module in model.model.layers.modules() if not isinstance(module, Linear)]:
        _replace_fused(module)
        for name, child in list(module.named_children()):
            if isinstance(child, Linear) and child.weight.numel():
                setattr(module, name, Int8Linear(child.weight, child.bias))
    model.head = Int8Linear(model.head_weight, None)
    if model.lm_head is not None:
        _give_up(model.lm_head)
    return model


def _replace_fused(module: nn.Module) -> None:
    """The joined weight takes the place of its parts, whose memory is given back."""
    for name, fused in list(vars(module).items()):
        if not isinstance(fused, FusedLinears):
            continue
        weight, bias = fused.joined(torch.float32)
        setattr(module, name, Int8Linear(weight, bias))
        for part in fused.parts:
            _give_up(part)


def _give_up(linear: Linear) -> None:
    """Nothing is left but the dtype."""
    linear.weight = nn.Parameter(linear.weight.new_empty(0, linear.weight.shape[1]), requires_grad=False)
    linear.bias = None
