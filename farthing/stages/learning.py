"""What every stage that learns says of itself: its optimizer, and the speed its work is measured against."""

from __future__ import annotations

import torch

from farthing.learner.optim import OptimSettings
from farthing.stages.config.base import OptimizerConfig
from farthing.stages.context import Context


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
