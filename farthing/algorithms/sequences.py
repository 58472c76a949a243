"""Sums within sequences, for quantities that a whole completion has. M = tokens of a micro-batch, flat.

`rows_M` [M], int64, says which sequence a token belongs to, counted from 0. A sequence is never split between
micro-batches and its tokens are added in their order, so nothing here depends on what else is in the micro-batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_sum(values_M: Tensor, rows_M: Tensor) -> Tensor:
    """The sum over a token's sequence, given to each of its tokens, [M]."""
    sums = values_M.new_zeros(int(rows_M.max()) + 1).index_add(0, rows_M, values_M)
    return sums.index_select(0, rows_M)


def row_mean(values_M: Tensor, rows_M: Tensor) -> Tensor:
    """The mean over a token's sequence, given to each of its tokens, [M]."""
    return row_sum(values_M, rows_M) / row_sum(torch.ones_like(values_M), rows_M)
