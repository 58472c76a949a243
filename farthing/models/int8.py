"""Weights of 8 bits for serving: a quarter of the memory of float32, and products of whole numbers (`whole.py`).

Norms and the embedding keep their own precision.
"""

from __future__ import annotations

import torch

from farthing.errors import CheckpointError
from farthing.models.decoder import Decoder
from farthing.models.sampling_only import give_up, replace_projections
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
    replace_projections(model, Int8Linear, torch.float32)
    model.head = Int8Linear(model.head_weight, None)
    if model.lm_head is not None:
        give_up(model.lm_head)
    return model
