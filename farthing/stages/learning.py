"""What stages that learn share: the model they move, their optimizer, the speed their work is measured against."""

from __future__ import annotations

import torch

from farthing.errors import RecipeError
from farthing.learner.optim import OptimSettings
from farthing.models.decoder import Decoder
from farthing.models.lora import adapt, adapted, is_adapted_by, merged
from farthing.stages.config.base import LearningConfig, OptimizerConfig
from farthing.stages.context import Context
from farthing.text.tokenizer import Tokenizer


def whole_model(context: Context, name: str) -> tuple[Decoder, Tokenizer]:
    """A model all of which can learn: an adapter becomes part of a copy's weights."""
    model, tokenizer = context.load_model(name)
    return (merged(model) if adapted(model) else model), tokenizer


def model_to_learn(context: Context, config: LearningConfig) -> tuple[Decoder, Tokenizer]:
    """The model that the stage goes on with. With a table `lora` its weights are frozen and adapters stand beside them:
    new ones, or those of the stage before. Without, all of it learns."""
    settings = context.lora()
    if settings is None:
        return whole_model(context, config.model)
    model, tokenizer = context.load_model(config.model)
    if not adapted(model):
        return adapt(model, settings, context.seed), tokenizer
    if not is_adapted_by(model, settings):
        raise RecipeError(
            f"[{context.name}]: the model it begins with, {context.models[config.model]}, has another adapter; "
            "give it the same table lora as the stage that made it"
        )
    return model, tokenizer


def optim_settings(config: OptimizerConfig) -> OptimSettings:
    """The optimizer keys of a stage."""
    return OptimSettings(
        optimizer=config.optimizer,
        lr=config.lr,
        muon_lr=config.muon_lr,
        weight_decay=config.weight_decay,
        betas=config.betas,
        clip_norm=config.clip_norm,
        bias_update_speed=config.bias_update_speed,
    )


def peak_flops(context: Context, dtype: str) -> float:
    """The measured GEMM peak in the dtype the stage computes in, FLOP/s."""
    is_bf16 = context.compute_dtype(dtype) == torch.bfloat16
    return context.hardware.gemm_flops_bf16 if is_bf16 else context.hardware.gemm_flops
