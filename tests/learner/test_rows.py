"""Rows end to end: the flat sequence knows its rows, and attention keeps them apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.data.sample import Sample
from farthing.learner.rows import FlatRows
from farthing.models.attention import causal

# (prompt, length, completions): a number names the prompt, so that some are shared.
drawn = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), min_size=1, max_size=8)
PROMPTS = (1, 20, 32)


def make(rows: list[tuple[int, int]]) -> list[Sample]:
    """Rows whose tokens differ from each other's behind the prompt."""
    samples = []
    for index, (prompt, length) in enumerate(rows):
        ids = [prompt + 1] * PROMPTS[prompt] + [100 * (index + 1) + place for place in range(length)]
        samples.append(Sample(ids, PROMPTS[prompt], 1.0))
    return samples


@given(drawn)
def test_every_token_stands_at_its_position_and_predicts_the_next(rows: list[tuple[int, int]]) -> None:
    samples = make(rows)
    flat = FlatRows(samples)
    assert flat.token_ids.shape == flat.positions.shape == (1, flat.layout.size)
    ids, positions = flat.token_ids[0], flat.positions[0]
    trained = iter(zip(flat.predictors.tolist(), flat.targets.tolist(), strict=True))
    for sample in samples:
        for place in range(sample.prompt_len, len(sample.token_ids)):
            predictor, target = next(trained)
            assert target == sample.token_ids[place]
            assert ids[predictor] == sample.token_ids[place - 1]
            assert positions[predictor] == place - 1
    assert flat.trained == sum(sample.num_trained for sample in samples)
    assert set(trained) <= set(zip(flat.predictors.tolist(), flat.targets.tolist(), strict=True)), "filling"


def test_a_prompt_lies_there_once_unless_it_must_not() -> None:
    samples = make([(1, 5), (1, 7), (2, 3), (1, 1)])
    for share, firsts in ((True, 2), (False, 4)):
        segments = FlatRows(samples, share).layout.segments
        assert sum(segment.offset == 0 for segment in segments) == firsts


@settings(max_examples=20, deadline=None)
@given(drawn, st.sampled_from([torch.float64, torch.bfloat16]), st.integers(0, 100))
def test_attention_is_that_of_each_row_alone(
    rows: list[tuple[int, int]], dtype: torch.dtype, seed: int
) -> None:
    samples = make(rows)
    flat = FlatRows(samples)
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(1, flat.layout.size, heads, 8, generator=generator).to(dtype) for heads in (4, 2, 2)
    )
    together = flat(0, q, k, v, 0.3)
    assert together.shape == (1, flat.layout.size, 4, 8)
    starts, segments = flat.layout.starts, flat.layout.segments
    for segment, start in zip(segments, starts, strict=True):
        if segment.length == 0:
            continue
        places = list(range(start, start + segment.length))
        if segment.prompt is not None:
            prompt = starts[segment.prompt]
            places = list(range(prompt, prompt + segment.offset)) + places
        alone = causal(0, q[:, places], k[:, places], v[:, places], 0.3)[:, segment.offset :]
        bound = 1e-12 if dtype == torch.float64 else 0.03
        torch.testing.assert_close(together[:, start : start + segment.length], alone, atol=bound, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_carries_no_gradient(dtype: torch.dtype) -> None:
    flat = FlatRows(make([(1, 7), (1, 30), (1, 1), (0, 5)]))
    q, k, v = (torch.randn(1, flat.layout.size, 2, 8, dtype=dtype, requires_grad=True) for _ in range(3))
    flat(0, q, k, v, 0.3)[0, flat.predictors].sum().backward()
    used = torch.zeros(flat.layout.size, dtype=torch.bool)
    for segment, start in zip(flat.layout.segments, flat.layout.starts, strict=True):
        used[start : start + segment.length] = True
    for tensor in (q, k, v):
        assert tensor.grad is not None
        assert not tensor.grad[0, ~used].any()
        assert tensor.grad.isfinite().all()
