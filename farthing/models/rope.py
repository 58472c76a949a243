"""Rotary position embedding: tables once per forward, applied to queries and keys.

Shapes: B rows, T tokens, H heads, D channels of one head, R = rotary channels (even, at most D).
Source: RoFormer, arXiv 2104.09864, equation 34.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from farthing.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, rotary_dim: int) -> Tensor:
    """float32 [R/2]: radians per position of each channel pair."""
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float32, device="cpu") / rotary_dim
    plain = 1.0 / (rope.rope_theta**exponents)
    if rope.rope_type == "llama3":
        return _llama3(plain, rope)
    if rope.rope_type == "yarn":
        return _yarn(plain, rope, rotary_dim)
    return plain


def _llama3(plain: Tensor, rope: RopeConfig) -> Tensor:
    """Long wavelengths divided by `factor`, short ones kept, a linear ramp in between (Llama 3.1 model card)."""
    assert rope.original_max_position_embeddings is not None
    turns = rope.original_max_position_embeddings * plain / (2 * math.pi)
    kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    kept = kept.clamp(0, 1)
    return plain * kept + plain / rope.factor * (1 - kept)


def _yarn(plain: Tensor, rope: RopeConfig, rotary_dim: int) -> Tensor:
    """Channels that turn more than `beta_fast` times over the original length are kept, those that turn less than
    `beta_slow` times are divided by `factor`, a linear ramp over channels in between (arXiv 2309.00071, 3.2)."""
    low = max(math.floor(_channel_of(rope.beta_fast, rope, rotary_dim)), 0)
    high = min(math.ceil(_channel_of(rope.beta_slow, rope, rotary_dim)), rotary_dim - 1)
    ramp = (torch.arange(rotary_dim // 2, dtype=torch.float32, device="cpu") - low) / max(high - low, 0.001)
    divided = ramp.clamp(0, 1)
    return plain / rope.factor * divided + plain * (1 - divided)


def _channel_of(turns: float, rope: RopeConfig, rotary_dim: int) -> float:
    """The channel pair that turns `turns` times over the original length."""
    assert rope.original_max_position_embeddings is not None
    positions = rope.original_max_position_embeddings / (turns * 2 * math.pi)
    return rotary_dim * math.log(positions) / (2 * math.log(rope.rope_theta))


def magnitude(factor: float, mscale: float = 1.0) -> float:
    """YaRN's growth of attention logits with the length: 0.1 mscale ln(factor) + 1 (arXiv 2309.00071, equation 22)."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def table_factor(rope: RopeConfig) -> float:
    """What cosines and sines are multiplied with: 1 but for YaRN."""
    if rope.rope_type != "yarn":
        return 1.0
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return magnitude(rope.factor, rope.mscale) / magnitude(rope.factor, rope.mscale_all_dim)
    return magnitude(rope.factor)


def softmax_factor(rope: RopeConfig) -> float:
    """What latent attention multiplies its softmax scale with: DeepSeek moves YaRN's growth there (mscale_all_dim)."""
    if rope.rope_type != "yarn" or not rope.mscale_all_dim:
        return 1.0
    return magnitude(rope.factor, rope.mscale_all_dim) ** 2


def rotary_tables(
    inv_freq: Tensor, positions: Tensor, dtype: torch.dtype, factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(cos, sin) times `factor`, each [..., R/2], for integer `positions` [...]; angles are formed in float32 whatever
    `dtype` is."""
    angles = positions.to(torch.float32).unsqueeze(-1) * inv_freq
    cos, sin = angles.cos(), angles.sin()
    if factor != 1.0:
        cos, sin = cos * factor, sin * factor
    return cos.to(dtype), sin.to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turn the channel pairs of `x` [..., H, R] by tables [..., R/2]; the head axis is broadcast."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    if interleaved:
        first, second = x[..., 0::2], x[..., 1::2]
        return torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1).flatten(-2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
