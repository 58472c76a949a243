"""Products of 8-bit numbers: the compiled ones give what the plain ones give, to the last bit, and take no more memory
than the weights; a row's numbers depend on that row alone."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from farthing.models import fused
from farthing.models.whole import WholeMatrix, WholeStrips, rounded

needs_strips = pytest.mark.skipif(
    not fused.has_whole(),
    reason="no C++ compiler, FARTHING_FUSED=0, or a processor without dot products of 8-bit numbers",
)
DTYPES = [torch.float32, torch.bfloat16]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both(weight_OI: Tensor, bias_O: Tensor | None = None) -> tuple[WholeStrips, WholeMatrix]:
    """Whole numbers in either layout."""
    scales_O = weight_OI.abs().amax(dim=1) / 127
    whole_OI = (weight_OI / scales_O.unsqueeze(1)).round().to(torch.int8)
    return WholeStrips(whole_OI, scales_O, bias_O), WholeMatrix(whole_OI, scales_O, bias_O)


@needs_strips
@given(
    rows=st.integers(1, 40),
    inputs=st.integers(2, 150),
    outputs=st.integers(1, 150),
    dtype=st.sampled_from(DTYPES),
    has_bias=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_compiled_and_plain_give_the_same_to_the_last_bit(
    rows: int, inputs: int, outputs: int, dtype: torch.dtype, has_bias: bool, seed: int
) -> None:
    """Of any size, also such that strips and fours of inputs are not full."""
    bias = numbers(outputs, seed=seed + 1) if has_bias else None
    strips, matrix = both(numbers(outputs, inputs, seed=seed), bias)
    x = (numbers(rows, inputs, seed=seed + 2) * numbers(rows, 1, seed=seed + 3).exp()).to(dtype)
    found = strips(x)
    assert found.dtype == dtype and found.shape == (rows, outputs)
    assert torch.equal(found, matrix(x))
    assert torch.equal(torch.cat([strips(row.unsqueeze(0)) for row in x]), found), "rows alone"


@needs_strips
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_at_the_edges(dtype: torch.dtype) -> None:
    """Nothing but zeros, hardly more, as large as they get, and what is no number, which stays in its own row."""
    strips, matrix = both(numbers(33, 21), numbers(33, seed=1))
    x = numbers(7, 21, seed=2)
    x[0], x[1], x[2] = 0.0, 1e-42, 1e37 * x[2]
    x[3, 5], x[4, 20], x[5, 0] = float("nan"), float("inf"), -float("inf")
    found, expected = strips(x.to(dtype)), matrix(x.to(dtype))
    assert torch.equal(found.isnan(), expected.isnan())
    assert found.isnan().all(dim=1).tolist() == [False, False, False, True, True, True, False]
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@needs_strips
@pytest.mark.parametrize("dtype", DTYPES)
def test_halves_become_the_even_number(dtype: torch.dtype) -> None:
    x = torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 3.5, 125.5, -126.5])
    expected = [127.0, 0.0, 2.0, 2.0, 0.0, -2.0, 4.0, 126.0, -126.0]
    strips, matrix = both(127 * torch.eye(9))
    for product in (strips, matrix):
        assert (product(x.to(dtype).unsqueeze(0)) / 127).tolist() == [expected]


@needs_strips
def test_the_largest_sums_are_exact() -> None:
    signs = numbers(20, 4096).sign()
    strips, matrix = both(127 * signs)
    assert strips(127 * signs).diagonal().tolist() == [127.0**2 * 4096] * 20
    assert torch.equal(strips(127 * signs), matrix(127 * signs))


@needs_strips
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_may_lie_apart_and_have_any_number_of_axes(dtype: torch.dtype) -> None:
    strips, matrix = both(numbers(32, 24))
    wide = numbers(4, 3, 48, seed=1).to(dtype)
    for x in (
        wide[..., :24],
        wide[:, 1, 24:],
        wide.transpose(0, 1)[..., :24],
        wide[..., ::2],
        wide[:0, :, :24],
    ):
        assert torch.equal(strips(x), matrix(x)) and strips(x).shape == (*x.shape[:-1], 32)
    assert torch.equal(copy.deepcopy(strips)(wide[..., :24]), strips(wide[..., :24]))


def test_the_layout_is_what_the_machine_multiplies_best(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias, x = numbers(48, 40), numbers(48, seed=1), numbers(5, 40, seed=2)
    here = rounded(weight, bias)
    assert isinstance(here, WholeStrips if fused.has_whole() else WholeMatrix)
    monkeypatch.setattr(fused, "library", lambda: None)
    plain = rounded(weight, bias)
    assert isinstance(plain, WholeMatrix)
    monkeypatch.undo()
    assert torch.equal(here(x), plain(x))


@needs_strips
def test_weights_are_held_once() -> None:
    strips, _ = both(numbers(64, 512), numbers(64))
    taken = sum(tensor.untyped_storage().nbytes() for tensor in strips.kept if tensor is not None)
    assert taken == 64 * 512 + 3 * 4 * 64
