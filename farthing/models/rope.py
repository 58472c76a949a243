"""Rotary position embedding: tables once per forward, applied to queries and keys.

Shapes: B rows, T tokens, H heads, D channels of one head, R = rotary channels (even, at most D).
Source: RoFormer, arXiv 2104.09864, equation 34.
"""

from __future__ import annotations

import torch
from torch import Tensor

from farthing.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, rotary_dim: int) -> Tensor:
    """float32 [R/2]: radians per position of each channel pair."""
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim
    return 1.0 / (rope.rope_theta**exponents)


def rotary_tables(inv_freq: Tensor, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(cos, sin), each [..., R/2], for integer `positions` [...]; angles are formed in float32 whatever `dtype` is."""
    angles = positions.to(torch.float32).unsqueeze(-1) * inv_freq
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turn the channel pairs of `x` [..., H, R] by tables [..., R/2]; the head axis is broadcast."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    if interleaved:
        first, second = x[..., 0::2], x[..., 1::2]
        return torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1).flatten(-2)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
