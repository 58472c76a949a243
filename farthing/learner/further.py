"""The loss of further prediction: what each MTP module says of tokens after the next (arXiv 2412.19437, section 2.2).

    L_MTP = 1 / D sum_k L_k,    L_k = - sum over trained tokens of weight x log P_k      (equations 24 and 25)

Equation 24 divides by the tokens of the whole row although depth k predicts k fewer; a token's weight does the same.
Every depth lays its rows out anew, one token shorter, so that no module reads beyond the end of a row.

Shapes: N flat tokens, C hidden_size, M trained tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from farthing.data.sample import Sample
from farthing.learner.rows import FlatRows
from farthing.models.decoder import Decoder


def further_loss(model: Decoder, rows: Sequence[Sample], flat: FlatRows, hidden: Tensor) -> Tensor:
    """L_MTP of a micro-batch, longest row first, whose `hidden` states [1, N, C] lie as `flat` says; a scalar."""
    depths = len(model.model.mtp)
    total = hidden.new_zeros((), dtype=model.head_weight.dtype)
    for depth in range(1, depths + 1):
        rows = [row for row in rows if len(row.token_ids) > depth + 1]
        if not rows:
            break
        ahead = FlatRows([row.token_ids[depth:] for row in rows])
        states = _carried(hidden, flat, ahead, [len(row.token_ids) - depth for row in rows])
        hidden = model.further(depth, states, ahead.token_ids, ahead.positions + depth, ahead.attend)
        total = total + _cross_entropy(model, rows, ahead, hidden, depth)
        flat = ahead
    return total / depths


def _carried(hidden: Tensor, flat: FlatRows, ahead: FlatRows, lengths: Sequence[int]) -> Tensor:
    """The first states of every row, moved from where `flat` has them to where `ahead` wants them."""
    places = torch.zeros(ahead.layout.size, dtype=torch.int64)
    for old, new, length in zip(flat.layout.starts, ahead.layout.starts, lengths, strict=False):
        places[new : new + length] = torch.arange(old, old + length)
    return hidden.index_select(1, places)


def _cross_entropy(
    model: Decoder, rows: Sequence[Sample], ahead: FlatRows, hidden: Tensor, depth: int
) -> Tensor:
    """The sum over the tokens that are trained on and that this depth can predict."""
    trained = [
        (max(row.prompt_len - depth - 1, 0), len(row.token_ids) - depth - 1, row.weight) for row in rows
    ]
    places_M = torch.cat(
        [torch.arange(a, b) + at for at, (a, b, _) in zip(ahead.layout.starts, trained, strict=True)]
    )
    targets_M = ahead.token_ids[0].index_select(0, places_M + 1)
    logprobs_M, _ = model.token_logprobs(hidden[0].index_select(0, places_M), targets_M, 1.0, entropy=False)
    weights_M = torch.tensor(
        [weight for a, b, weight in trained for _ in range(a, b)], dtype=logprobs_M.dtype
    )
    return -(weights_M * logprobs_M).sum()
