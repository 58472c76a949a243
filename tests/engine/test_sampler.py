"""Sampling statistics with stated odds: a sound sampler fails a test here less than once in a million seeds, and the
seeds are fixed, so it passes or fails for good."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farthing.engine.sampler import Drawn, Filters, sample, uniforms

DRAWS = 40_000
# Odds of a normal variable beyond 5.5 standard deviations: 4e-8; times the few hundred counts compared in this file.
SIGMAS = 5.5


def draw(
    logits_V: torch.Tensor, count: int, *, t: float = 1.0, k: int = 0, p: float = 1.0, seed: int = 0
) -> Drawn:
    """`count` draws from one distribution, each with a seed of its own."""
    filters = Filters(np.full(count, t), np.full(count, k), np.full(count, p))
    numbers = uniforms(np.arange(seed, seed + count, dtype=np.uint64), np.full(count, 17))
    return sample(logits_V.expand(count, -1), filters, numbers)


def frequencies_fit(tokens: torch.Tensor, probability: torch.Tensor) -> bool:
    """Every token's count is within SIGMAS standard deviations of what it should be; impossible ones never occur."""
    counts = torch.bincount(tokens, minlength=len(probability)).double()
    expected = probability.double() * len(tokens)
    spread = (expected * (1 - probability.double())).sqrt()
    return bool(((counts - expected).abs() <= SIGMAS * spread + 1e-9 + (probability > 0).double()).all())


def kept(probability: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    out = torch.zeros_like(probability)
    out[tokens] = probability[tokens] / probability[tokens].sum()
    return out


LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.5, 3.0, -4.0, 1.0, 0.0])
# The tokens of LOGITS from the likeliest: 4 0 6 2 3 7 1 5


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_frequencies_are_probabilities(temperature: float) -> None:
    drawn = draw(LOGITS, DRAWS, t=temperature)
    probability = (LOGITS / temperature).softmax(-1)
    assert frequencies_fit(drawn.token_ids, probability)
    torch.testing.assert_close(drawn.sampling_logprobs, probability.log()[drawn.token_ids])
    torch.testing.assert_close(drawn.logprobs, LOGITS.log_softmax(-1)[drawn.token_ids])


def test_the_test_of_frequencies_can_fail() -> None:
    drawn = draw(LOGITS, DRAWS)
    assert not frequencies_fit(drawn.token_ids, (LOGITS * 1.05).softmax(-1))
    assert not frequencies_fit(drawn.token_ids, kept(LOGITS.softmax(-1), [4, 0, 6, 2, 3, 7]))


@pytest.mark.parametrize(
    ("k", "tokens"), [(1, [4]), (3, [4, 0, 6]), (4, [4, 0, 6, 2]), (100, list(range(8)))]
)
def test_top_k_keeps_the_k_likeliest(k: int, tokens: list[int]) -> None:
    drawn = draw(LOGITS, DRAWS, k=k)
    expected = kept(LOGITS.softmax(-1), tokens)
    assert frequencies_fit(drawn.token_ids, expected)
    torch.testing.assert_close(drawn.sampling_logprobs, expected.log()[drawn.token_ids])


@pytest.mark.parametrize(
    ("p", "tokens"),
    [(1e-9, [4]), (0.5, [4]), (0.6, [4, 0]), (0.9, [4, 0, 6, 2]), (1.0, list(range(8)))],
)
def test_top_p_keeps_the_smallest_set_of_that_mass(p: float, tokens: list[int]) -> None:
    expected = kept(LOGITS.softmax(-1), tokens)
    drawn = draw(LOGITS, DRAWS, p=p)
    assert frequencies_fit(drawn.token_ids, expected)
    torch.testing.assert_close(drawn.sampling_logprobs, expected.log()[drawn.token_ids])


def test_filters_follow_temperature_and_each_other() -> None:
    """Temperature first, then top-k; the mass of top-p is that of the tempered distribution."""
    hot = (LOGITS / 2.5).softmax(-1)
    drawn = draw(LOGITS, DRAWS, t=2.5, k=5, p=0.7)
    mass = hot.sort(descending=True).values.cumsum(-1)
    tokens = [4, 0, 6, 2, 3][: int((mass < 0.7).sum()) + 1]
    assert 2 < len(tokens) < 5
    assert frequencies_fit(drawn.token_ids, kept(hot, tokens))


def test_rows_with_different_settings_do_not_disturb_each_other() -> None:
    """One batch of plain, hot, cut and greedy rows draws what each would alone."""
    settings = [(1.0, 0, 1.0), (0.0, 0, 1.0), (2.0, 3, 1.0), (0.8, 0, 0.6), (0.0, 2, 0.5)] * 20
    t, k, p = (np.array(column) for column in zip(*settings, strict=True))
    logits = torch.randn(100, 8, generator=torch.Generator().manual_seed(1)) * 2
    numbers = uniforms(np.arange(100, dtype=np.uint64), np.arange(100))
    together = sample(logits, Filters(t, k, p), numbers)
    for row in range(100):
        one = slice(row, row + 1)
        alone = sample(logits[one], Filters(t[one], k[one], p[one]), numbers[one])
        assert alone.token_ids.item() == together.token_ids[row].item()
        torch.testing.assert_close(alone.sampling_logprobs[0], together.sampling_logprobs[row])
        if t[row] == 0:
            assert together.token_ids[row] == logits[row].argmax()
            assert together.sampling_logprobs[row] == 0.0


@pytest.mark.parametrize("temperature", [1e-3, 1e-12, 1e-300])
def test_a_temperature_near_zero_is_as_good_as_greedy(temperature: float) -> None:
    drawn = draw(LOGITS, 50, t=temperature)
    assert set(drawn.token_ids.tolist()) == {4}
    assert drawn.sampling_logprobs.abs().max() < 1e-6


def test_impossible_tokens_are_never_drawn() -> None:
    """Not even by the largest and the smallest number a generator can give."""
    logits = torch.full((6, 9), float("-inf"))
    logits[:, 4] = 0.0
    logits[3:, 7] = 1.0
    ends = np.array([0.0, 0.5, 1 - 2**-53] * 2)
    drawn = sample(logits, Filters(np.ones(6), np.zeros(6, int), np.ones(6)), ends)
    assert drawn.token_ids.tolist() == [4, 4, 4, 4, 7, 7]
    assert drawn.logprobs.isfinite().all()


def test_uniform_numbers_are_uniform_and_independent() -> None:
    """Along seeds, along positions, and between neighbours of either kind; moments and a chi-square of 64 cells."""
    seeds, positions = np.meshgrid(np.arange(400, dtype=np.uint64), np.arange(400))
    table = uniforms(seeds.ravel(), positions.ravel()).reshape(400, 400)
    assert table.min() >= 0.0 and table.max() < 1.0
    n = table.size
    assert abs(table.mean() - 0.5) < SIGMAS * math.sqrt(1 / 12 / n)
    cells = np.bincount((table.ravel() * 64).astype(int), minlength=64)
    chi_square = float(((cells - n / 64) ** 2 / (n / 64)).sum())
    assert abs(chi_square - 63) < SIGMAS * math.sqrt(2 * 63)
    for first, second in ((table[1:], table[:-1]), (table[:, 1:], table[:, :-1])):
        correlation = float(np.mean((first - 0.5) * (second - 0.5)) * 12)
        assert abs(correlation) < SIGMAS / math.sqrt(first.size)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**31))
def test_a_number_is_a_function_of_seed_and_position(seed: int, position: int) -> None:
    alone = uniforms(np.array([seed], np.uint64), np.array([position]))[0]
    beside = uniforms(np.array([1, seed, 2], np.uint64), np.array([5, position, position]))
    assert alone == beside[1]
    assert alone not in (beside[0], beside[2])
