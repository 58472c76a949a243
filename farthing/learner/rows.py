"""Samples laid end to end: the flat token sequence of a micro-batch and the attention that keeps rows apart.

Shapes: N flat tokens, R rows of a rectangle, T their tokens, P tokens of the prompts they continue, S = P + T keys,
U rows of the rectangle that the prompts form, H query heads, K key heads, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import cycle, islice

import torch
from torch import Tensor

from farthing.data.packing import ROW_QUANTUM, TRAINED_QUANTUM, Layout, Rectangle, layout, rounded
from farthing.data.sample import Sample
from farthing.models.attention import causal, masked
from farthing.models.fused_rows import attend_rows, pays


class FlatRows:
    """Samples as one sequence, `token_ids` and `positions` [1, N], and an `Attend` for it: call it. Samples of one
    prompt `share` its tokens.

    `predictors` [M]: the flat place that predicts each trained token; `targets` [M]: that token; sample by sample in
    the order given, then once more from the first until their number is round. `trained`: how many come once.

    Padding repeats the rows' own tokens: experts count it as well, and one token for all of it would look like a load.
    """

    expands_latents = True

    def __init__(self, samples: Sequence[Sample], share: bool = True) -> None:
        self.layout: Layout = layout(samples, share)
        token_ids = list(islice(cycle(samples[0].token_ids), self.layout.size))
        positions = [0] * self.layout.size
        for segment, start in zip(self.layout.segments, self.layout.starts, strict=True):
            width = rounded(segment.length, ROW_QUANTUM)
            own = samples[segment.sample].token_ids[segment.offset : segment.offset + segment.length]
            token_ids[start : start + width] = islice(cycle(own), width)
            positions[start : start + width] = range(segment.offset, segment.offset + width)
        self.token_ids, self.positions = torch.tensor([token_ids]), torch.tensor([positions])
        predictors = [place for own in self.layout.predictors for place in own]
        targets = [token for sample in samples for token in sample.token_ids[sample.prompt_len :]]
        self.trained = len(targets)
        size = rounded(self.trained, TRAINED_QUANTUM)
        self.predictors = torch.tensor(list(islice(cycle(predictors), size)))
        self.targets = torch.tensor(list(islice(cycle(targets), size)))
        self.rows, self.longest = _rows(self.layout)

    @cached_property
    def _prefixes(self) -> dict[Rectangle, _Prefix]:
        """What the plain products need of rows that continue prompts."""
        return {part: _Prefix(self.layout, part) for part in self.layout.rectangles if part.prefix}

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Causal attention within each row, prompts included; the padding behind the last row reads nothing."""
        flat = queries.squeeze(0), keys.squeeze(0), values.squeeze(0)
        if pays(*flat, self.longest):
            return attend_rows(*flat, self.rows, scale).unsqueeze(0)
        out = []
        for part in self.layout.rectangles:
            shape = (part.rows, part.length)
            q, k, v = (x[0, part.start : part.end].unflatten(0, shape) for x in (queries, keys, values))
            if part.prefix:
                prefix = self._prefixes[part]
                k, v = prefix.before(keys, k), prefix.before(values, v)
                out.append(masked(q, k, v, prefix.mask, scale).flatten(0, 1))
            else:
                out.append(causal(layer, q, k, v, scale).flatten(0, 1))
        end = self.layout.rectangles[-1].end
        padding = queries.new_zeros(self.layout.size - end, queries.shape[2], values.shape[-1])
        return torch.cat([*out, padding]).unsqueeze(0)


def _rows(laid: Layout) -> tuple[Tensor, int]:
    """What `attend_rows` is told of the rows, int64 [R, 4], and how many keys the longest reads."""
    lying = [n for n, segment in enumerate(laid.segments) if segment.length]
    number = {segment: row for row, segment in enumerate(lying)}
    told = []
    for n in lying:
        segment = laid.segments[n]
        prompt = -1 if segment.prompt is None else number[segment.prompt]
        told.append((laid.starts[n], rounded(segment.length, ROW_QUANTUM), prompt, segment.offset))
    longest = max((length + offset for _, length, _, offset in told), default=0)
    return torch.tensor(told, dtype=torch.int64).view(-1, 4), longest


class _Prefix:
    """The prompts that the rows of one rectangle continue.

    They are all rounded to the same length, so among the whole rows and prompts they lie in one rectangle [U, P].
    """

    def __init__(self, laid: Layout, part: Rectangle) -> None:
        segments = laid.segments[part.first : part.first + part.rows]
        self.prompts = next(r for r in laid.rectangles if r.length == part.prefix and not r.prefix)
        self.which = torch.tensor([(segment.prompt or 0) - self.prompts.first for segment in segments])
        self.mask = _mask([segment.offset for segment in segments], part)

    def before(self, flat: Tensor, own: Tensor) -> Tensor:
        """Keys or values [R, T, K, D] of the rows behind those of their prompts: [R, P + T, K, D]."""
        shape = (self.prompts.rows, self.prompts.length)
        prompts_UPKD = flat[0, self.prompts.start : self.prompts.end].unflatten(0, shape)
        return torch.cat([prompts_UPKD.index_select(0, self.which), own], dim=1)


def _mask(prompt_lengths: list[int], part: Rectangle) -> Tensor:
    """bool [R or 1, T, P + T]: which keys a token sees, its whole prompt and its row up to itself."""
    own_TT = torch.ones(part.length, part.length, dtype=torch.bool).tril()
    lengths = prompt_lengths[:1] if len(set(prompt_lengths)) == 1 else prompt_lengths
    prompt_RP = torch.arange(part.prefix) < torch.tensor(lengths).unsqueeze(-1)
    prompt_RTP = prompt_RP.unsqueeze(1).expand(-1, part.length, -1)
    return torch.cat([prompt_RTP, own_TT.expand(len(lengths), -1, -1)], dim=-1)
