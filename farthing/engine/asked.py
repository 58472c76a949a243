"""What some requests ask for beyond a token: a say in the distribution, its likeliest tokens, the prompt's own scores,
the prompt as one vector.

Called only for rows that ask, so that a batch in which nobody does is drawn without any of it.

Shapes: N rows, V vocabulary, T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.engine.api import Top
from farthing.engine.sequence import Chunk, Sequence
from farthing.models.decoder import Decoder

# A prompt's logits are made for so many tokens at a time: with a vocabulary of 150,000 a row of float32 is 0.6 MB.
_SCORED_AT_ONCE = 128

Asking = Many[tuple[int, Sequence | None]]
"""(row, who sits there) of the rows that ask for something."""


def ask(logits_NV: Tensor, asking: Asking) -> Tensor | None:
    """Logits [N, V] to draw from, float32, as the requests' constraints want them; None if nobody wants a change."""
    constraints = [
        (row, sequence.request.constraint)
        for row, sequence in asking
        if sequence is not None and sequence.request.constraint is not None
    ]
    shaping = [(row, constraint) for row, constraint in constraints if constraint.shapes]
    if not shaping:
        return None
    wanted_NV = logits_NV.float().clone()
    for row, constraint in shaping:
        constraint.shape(wanted_NV[row])
    return wanted_NV


def tell(logits_NV: Tensor, token_ids_N: Tensor, asking: Asking) -> None:
    """Tell constraints what was drawn, and note the likeliest tokens of those who want to know."""
    for row, sequence in asking:
        if sequence is None:
            continue
        if sequence.request.constraint is not None:
            sequence.request.constraint.accept(int(token_ids_N[row]))
        if sequence.request.params.top_logprobs:
            sequence.top.append(likeliest(logits_NV[row], sequence.request.params.top_logprobs))


def likeliest(logits_V: Tensor, count: int) -> Top:
    """The `count` likeliest tokens of the raw model at temperature 1."""
    best = torch.log_softmax(logits_V.float(), dim=-1).topk(min(count, len(logits_V)))
    return tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def read_prompt(model: Decoder, states_TC: Tensor, chunk: Chunk) -> None:
    """What a chunk's hidden states tell of the prompt, for requests that want to know.

    A prompt computed again, after its sequence had to wait, is read again from its beginning.
    """
    params = chunk.sequence.request.params
    if params.prompt_logprobs:
        score_prompt(model, states_TC, chunk)
    if params.embed:
        pool_prompt(states_TC, chunk)


def score_prompt(model: Decoder, states_TC: Tensor, chunk: Chunk) -> None:
    """Log-probabilities of the prompt's tokens that a chunk's hidden states predict."""
    sequence = chunk.sequence
    prompt, count = sequence.request.prompt_ids, sequence.request.params.top_logprobs
    if chunk.start == 0:
        sequence.prompt_logprobs, sequence.prompt_top = [], []
    last = min(chunk.end, len(prompt) - 1)
    for start in range(chunk.start, last, _SCORED_AT_ONCE):
        end = min(start + _SCORED_AT_ONCE, last)
        logits_TV = model.logits(states_TC[start - chunk.start : end - chunk.start])
        logprobs_TV = torch.log_softmax(logits_TV.float(), dim=-1)
        targets_T1 = torch.tensor(prompt[start + 1 : end + 1]).unsqueeze(-1)
        sequence.prompt_logprobs += logprobs_TV.gather(-1, targets_T1).squeeze(-1).tolist()
        if count:
            sequence.prompt_top += [likeliest(row, count) for row in logits_TV]


def pool_prompt(states_TC: Tensor, chunk: Chunk) -> None:
    """Add a chunk's states up, in float64; with the last one the sum is scaled to length 1, and so is its mean."""
    sequence, sum_C = chunk.sequence, states_TC.double().sum(0)
    if chunk.start:
        sum_C += torch.tensor(sequence.embedding, dtype=torch.float64)
    sequence.embedding = (F.normalize(sum_C, dim=0).float() if chunk.is_last else sum_C).tolist()
