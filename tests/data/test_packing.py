"""Which rows share a micro-batch and where each lies: nothing lost, nothing overlapping, nothing over the budget."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.data.packing import (
    FLAT_QUANTUM,
    ROW_QUANTUM,
    Family,
    families,
    layout,
    microbatches,
    rounded,
)
from farthing.data.sample import Sample

# (which prompt, completion length); prompts of 1, 20 and 40 tokens, the first too short to be shared.
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200)), max_size=40)
PROMPTS = (1, 20, 40)


def make(drawn: list[tuple[int, int]]) -> list[Sample]:
    return [Sample([which] * PROMPTS[which] + [9] * length, PROMPTS[which], 1.0) for which, length in drawn]


def cost(samples: list[Sample]) -> int:
    """Rounded tokens, what is shared counted once."""
    return sum(
        rounded(family.shared, ROW_QUANTUM)
        + sum(
            rounded(len(samples[index].token_ids) - 1 - family.shared, ROW_QUANTUM)
            for index in family.members
        )
        for family in families(samples)
    )


@given(st.integers(0, 5000), st.integers(1, 600))
def test_rounded(length: int, quantum: int) -> None:
    assert rounded(length, quantum) % quantum == 0
    assert 0 <= rounded(length, quantum) - length < quantum


def test_families_are_samples_of_one_prompt() -> None:
    found = families(make([(1, 3), (0, 5), (2, 2), (1, 4), (0, 1)]))
    assert found == [Family(20, (0, 3)), Family(0, (1,)), Family(0, (4,)), Family(0, (2,))]


@given(rows, st.integers(1, 2000))
def test_every_row_is_in_one_microbatch_within_the_budget(drawn: list[tuple[int, int]], budget: int) -> None:
    samples = make(drawn)
    groups = microbatches(samples, budget)
    assert sorted(index for group in groups for index in group) == list(range(len(samples)))
    for group in groups:
        own = [samples[index] for index in group]
        assert cost(own) <= budget or len(group) == 1 or len({s.prompt_len for s in own}) == 1
    assert groups == microbatches(tuple(samples), budget)


@given(rows)
def test_a_family_is_split_only_where_it_exceeds_the_budget(drawn: list[tuple[int, int]]) -> None:
    samples = make(drawn)
    budget = max([cost([samples[i] for i in family.members]) for family in families(samples)], default=1)
    groups = microbatches(samples, budget)
    for family in families(samples):
        assert sum(bool(set(family.members) & set(group)) for group in groups) == 1
    for one, other in itertools.pairwise(groups):
        first = next(family for family in families(samples) if other[0] in family.members)
        assert cost([samples[index] for index in [*one, *first.members]]) > budget, "it would have fitted"


@given(rows.filter(bool))
def test_segments_lie_end_to_end_in_rectangles(drawn: list[tuple[int, int]]) -> None:
    samples = make(drawn)
    laid = layout(samples)
    assert laid.size % FLAT_QUANTUM == 0
    place = 0
    for part in laid.rectangles:
        assert part.start == place and part.length % ROW_QUANTUM == part.prefix % ROW_QUANTUM == 0
        for index in range(part.first, part.first + part.rows):
            segment = laid.segments[index]
            assert laid.starts[index] == part.start + (index - part.first) * part.length
            assert segment.length <= part.length < segment.length + ROW_QUANTUM
            assert segment.offset <= part.prefix < segment.offset + ROW_QUANTUM
        place = part.end
    assert 0 <= laid.size - place < FLAT_QUANTUM
    assert place == cost(samples), "what is shared lies there once"


def test_rectangles_by_hand() -> None:
    laid = layout(make([(0, 33), (1, 17), (0, 32), (1, 3), (1, 1)]))
    assert [(r.start, r.rows, r.length, r.prefix) for r in laid.rectangles] == [
        (0, 1, 48, 0),
        (48, 2, 32, 0),
        (112, 2, 16, 32),
    ]
    assert [(s.sample, s.offset, s.length, s.prompt) for s in laid.segments] == [
        (0, 0, 33, None),
        (2, 0, 32, None),
        (1, 0, 20, None),
        (1, 20, 16, 2),
        (3, 20, 2, 2),
        (4, 20, 0, 2),
    ]
    assert laid.predictors[3] == [99, 128, 129] and laid.predictors[4] == [99]
    assert laid.size == 256


@pytest.mark.parametrize("prompt", [0, 3, 4, -1])
def test_a_sample_has_something_to_read_and_something_to_train_on(prompt: int) -> None:
    with pytest.raises(ValueError, match=f"prompt_len {prompt} leaves nothing of 3 tokens"):
        Sample([1, 2, 3], prompt, 1.0)


@pytest.mark.parametrize("stream", ["rollout_logprobs", "ref_logprobs"])
def test_a_sample_has_one_number_for_every_trained_token(stream: str) -> None:
    assert Sample([1, 2, 3], 1, 1.0, **{stream: [0.1, 0.2]}).num_trained == 2  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{stream} has 3 entries for 2 trained tokens"):
        Sample([1, 2, 3], 1, 1.0, **{stream: [0.1, 0.2, 0.3]})  # type: ignore[arg-type]
