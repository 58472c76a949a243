"""Which rows share a micro-batch and where each lies: nothing lost, nothing overlapping, nothing over the budget."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.data.packing import FLAT_QUANTUM, ROW_QUANTUM, layout, microbatches, rounded
from farthing.data.sample import Sample

row_lengths = st.lists(st.integers(1, 300), max_size=40)


@given(st.integers(0, 5000), st.integers(1, 600))
def test_rounded(length: int, quantum: int) -> None:
    assert rounded(length, quantum) % quantum == 0
    assert 0 <= rounded(length, quantum) - length < quantum


@given(row_lengths, st.integers(1, 2000))
def test_every_row_is_in_one_microbatch_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = microbatches(lengths, budget)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        size = sum(rounded(lengths[index], ROW_QUANTUM) for index in group)
        assert size <= budget or len(group) == 1
        own = [lengths[index] for index in group]
        assert own == sorted(own, reverse=True), "longest first"
    for one, other in itertools.pairwise(groups):
        size = sum(rounded(lengths[index], ROW_QUANTUM) for index in [*one, other[0]])
        assert size > budget, "the next row would still have fitted"


@given(row_lengths, st.integers(1, 2000))
def test_microbatches_are_a_function_of_the_lengths(lengths: list[int], budget: int) -> None:
    assert microbatches(lengths, budget) == microbatches(tuple(lengths), budget)


@given(row_lengths.map(lambda found: sorted(found, reverse=True)))
def test_rows_lie_end_to_end_in_rectangles(lengths: list[int]) -> None:
    laid = layout(lengths)
    assert laid.size % FLAT_QUANTUM == 0
    position = 0
    places = iter(zip(laid.starts, lengths, strict=True))
    for part in laid.rectangles:
        assert part.start == position and part.length % ROW_QUANTUM == 0
        for row in range(part.rows):
            start, length = next(places)
            assert start == part.start + row * part.length
            assert length <= part.length < length + ROW_QUANTUM
        position = part.end
    assert next(places, None) is None
    assert 0 <= laid.size - position < FLAT_QUANTUM


def test_rectangles_by_hand() -> None:
    laid = layout([33, 32, 20, 16, 3])
    assert laid.starts == [0, 48, 80, 112, 128]
    assert [(part.start, part.rows, part.length) for part in laid.rectangles] == [
        (0, 1, 48),
        (48, 2, 32),
        (112, 2, 16),
    ]
    assert laid.size == 512


@pytest.mark.parametrize("prompt", [0, 3, 4, -1])
def test_a_sample_has_something_to_read_and_something_to_train_on(prompt: int) -> None:
    with pytest.raises(ValueError, match=f"prompt_len {prompt} leaves nothing of 3 tokens"):
        Sample([1, 2, 3], prompt, 1.0)


@pytest.mark.parametrize("stream", ["rollout_logprobs", "ref_logprobs"])
def test_a_sample_has_one_number_for_every_trained_token(stream: str) -> None:
    assert Sample([1, 2, 3], 1, 1.0, **{stream: [0.1, 0.2]}).num_trained == 2  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{stream} has 3 entries for 2 trained tokens"):
        Sample([1, 2, 3], 1, 1.0, **{stream: [0.1, 0.2, 0.3]})  # type: ignore[arg-type]
