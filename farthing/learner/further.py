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
    """L_MTP of a micro-batch, longest row first, whose `hidden` states [1, N, C] lie as `flat` says, no prompt shared;
    a scalar."""
    depths = len(model.model.mtp)
    total = hidden.new_zeros((), dtype=model.head_weight.dtype)
    for depth in range(1, depths + 1):
        rows = [_without_first(row) for row in rows if len(row.token_ids) > 2]
        if not rows:
            break
        ahead = FlatRows(rows, share=False)
        states = _carried(hidden, flat, ahead)
        hidden = model.further(depth, states, ahead.token_ids, ahead.positions + depth, ahead)
        total = total + _cross_entropy(model, rows, ahead, hidden)
        flat = ahead
    return total / depths


def _without_first(row: Sample) -> Sample:
    """The row as the next module sees it. Where everything is trained on, the token that is now first no longer is."""
    return Sample(row.token_ids[1:], max(row.prompt_len - 1, 1), row.weight)


def _carried(hidden: Tensor, flat: FlatRows, ahead: FlatRows) -> Tensor:
    """The first states of every row, moved from where `flat` has them to where `ahead` wants them."""
    places = torch.zeros(ahead.layout.size, dtype=torch.int64)
    old = {row.sample: start for row, start in zip(flat.layout.segments, flat.layout.starts, strict=True)}
    for row, new in zip(ahead.layout.segments, ahead.layout.starts, strict=True):
        places[new : new + row.length] = torch.arange(old[row.sample], old[row.sample] + row.length)
    return hidden.index_select(1, places)


def _cross_entropy(model: Decoder, rows: Sequence[Sample], ahead: FlatRows, hidden: Tensor) -> Tensor:
    """The sum over the tokens that are trained on and that this depth can predict."""
    hidden_MC = hidden[0].index_select(0, ahead.predictors)
    logprobs_M, _ = model.token_logprobs(hidden_MC, ahead.targets)
    weights_M = torch.tensor(
        [row.weight for row in rows for _ in range(row.num_trained)], dtype=logprobs_M.dtype
    )
    return -(weights_M * logprobs_M[: ahead.trained]).sum()
