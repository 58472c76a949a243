"""The compiled functions against their plain twins, and what they promise about rows: each depends on itself alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.models import fused
from farthing.models.rmsnorm import rms_norm
from farthing.models.rope import rotary_tables, rotate

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
PAIRS = [(torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16)]
pytestmark = pytest.mark.skipif(fused.library() is None, reason="no C++ compiler, or FARTHING_FUSED=0")


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(found: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found.float(), expected.float(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("stream", "compute"), PAIRS)
def test_residual_and_norm(stream: torch.dtype, compute: torch.dtype) -> None:
    x, change, gain = numbers(5, 3, 48, dtype=stream), numbers(5, 3, 48, dtype=compute, seed=1), numbers(48)
    gain = gain.to(stream)
    total, normed = fused.add_norm(x, change, gain, 1e-6, compute)
    assert torch.equal(total, x + change) and total.dtype == stream
    close(normed, rms_norm(total, gain, 1e-6, compute))
    close(fused.add_norm(x, None, gain, 1e-6, compute)[1], rms_norm(x, gain, 1e-6, compute))
    assert torch.equal(fused.add_norm(x, change, None, 0.0, compute)[0], x + change)


@pytest.mark.parametrize(("stream", "compute"), PAIRS)
@pytest.mark.parametrize("rows", [1, 3])
def test_norm_and_rotation(stream: torch.dtype, compute: torch.dtype, rows: int) -> None:
    """Of heads that lie among others, with tables for every row or one for all."""
    heads, keys, size, tokens = 4, 2, 16, 7
    qk = numbers(rows, tokens, heads + 2 * keys, size, dtype=compute)[:, :, : heads + keys]
    gains = tuple(numbers(size, dtype=stream, seed=seed) for seed in (1, 2))
    frequencies = 1.0 / 100 ** (torch.arange(0, size, 2) / size)
    for positions in (torch.arange(tokens).unsqueeze(0), torch.arange(rows * tokens).view(rows, tokens)):
        cos, sin = rotary_tables(frequencies, positions, compute)
        gain = torch.cat((gains[0].expand(heads, -1), gains[1].expand(keys, -1)))
        expected = rotate(rms_norm(qk, gain, 1e-6, compute), cos, sin, interleaved=False)
        close(fused.norm_rotate(qk, heads, gains, 1e-6, cos, sin), expected)
        plain = rotate(qk, cos, sin, interleaved=False)
        close(fused.norm_rotate(qk, heads, None, 0.0, cos, sin), plain)
    single = qk[:, :1]
    found = fused.norm_rotate(single, heads, None, 0.0, cos[:, :1].contiguous(), sin[:, :1].contiguous())
    close(found, rotate(single, cos[:, :1], sin[:, :1], interleaved=False))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_gate(dtype: torch.dtype) -> None:
    gate_up = 8 * numbers(6, 70, dtype=dtype)
    gate_up[0, :3] = torch.tensor([200.0, -200.0, 0.0])
    gate, up = gate_up.float().chunk(2, dim=-1)
    close(fused.gated(gate_up), (F.silu(gate) * up).to(dtype))


def test_bfloat16_is_rounded_where_the_plain_twins_round_it() -> None:
    """So that a learner, which computes with those, finds the numbers of the sampler: one in a hundred may differ."""
    compute = torch.bfloat16
    gate, up = (numbers(40, 64, dtype=compute, seed=seed) for seed in (1, 2))
    qk, gain = numbers(20, 1, 4, 64, dtype=compute), numbers(64, seed=3)
    frequencies = 1.0 / 100 ** (torch.arange(0, 64, 2) / 64)
    cos, sin = rotary_tables(frequencies, torch.arange(20).unsqueeze(1), compute)
    turned = rotate(rms_norm(qk, gain, 1e-6, compute), cos, sin, interleaved=False)
    pairs = [
        (fused.gated(torch.cat((gate, up), dim=-1)), F.silu(gate) * up),
        (fused.norm_rotate(qk, 4, (gain, gain), 1e-6, cos, sin), turned),
    ]
    for found, expected in pairs:
        assert (found != expected).float().mean() < 0.01


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "key_heads", "size"), [(4, 2, 16), (6, 2, 64), (5, 1, 128), (9, 1, 32)])
def test_attention_reads_to_each_rows_own_end(
    dtype: torch.dtype, heads: int, key_heads: int, size: int
) -> None:
    lengths, room, scale = torch.tensor([0, 1, 17, 63, 40]), 64, size**-0.5
    rows = len(lengths)
    slots = tuple(numbers(rows + 2, key_heads, room, size, dtype=dtype, seed=seed) for seed in (1, 2))
    q = numbers(rows + 3, heads, size, dtype=dtype, seed=3)
    k, v = (numbers(rows + 3, key_heads, size, dtype=dtype, seed=seed) for seed in (4, 5))
    before = [store.clone() for store in slots]
    out = fused.attend(q, k, v, slots, lengths, scale)
    for row, length in enumerate(lengths.tolist()):
        for store, new in zip(slots, (k, v), strict=True):
            assert torch.equal(store[row, :, length], new[row])
        keys, values = (store[row, :, : length + 1].float() for store in slots)
        read = F.scaled_dot_product_attention(
            q[row].float().unsqueeze(1), keys, values, scale=scale, enable_gqa=True
        )
        close(out[row], read.squeeze(1).to(dtype))
        # The same row alone, to the last bit.
        alone = tuple(store[row : row + 1].clone() for store in before)
        one = slice(row, row + 1)
        assert torch.equal(fused.attend(q[one], k[one], v[one], alone, lengths[one], scale)[0], out[row])
    assert not out[rows:].any(), "padding reads nothing"
    assert torch.equal(slots[0][rows:], before[0][rows:]), "and writes nothing"


def test_draws_invert_the_distribution() -> None:
    logits, count = 3 * numbers(40, 61), 40
    uniform = torch.linspace(0, 1, count + 1, dtype=torch.float64)[:-1]
    tokens, logprobs = fused.draw(logits, uniform)
    expected = logits.double().log_softmax(-1)
    edges = expected.exp().cumsum(-1)
    picked = tokens.unsqueeze(-1)
    low = torch.where(tokens > 0, edges.gather(-1, (picked - 1).clamp_(min=0)).squeeze(-1), 0.0)
    assert (low <= uniform + 1e-6).all() and (uniform < edges.gather(-1, picked).squeeze(-1) + 1e-6).all()
    torch.testing.assert_close(
        logprobs.double(), expected.gather(-1, picked).squeeze(-1), atol=1e-6, rtol=1e-6
    )
    certain = torch.full((1, 61), float("-inf"))
    certain[0, 7] = 3.0
    tokens, logprobs = fused.draw(certain, torch.tensor([0.999]))
    assert (int(tokens), float(logprobs)) == (7, 0.0)


def test_what_is_not_a_number_stays_visible() -> None:
    x = numbers(2, 16)
    x[1, 3] = float("nan")
    normed = fused.add_norm(x, None, torch.ones(16), 1e-6, torch.bfloat16)[1]
    assert normed[0].isfinite().all() and normed[1].isnan().all()


def test_where_gradients_flow_the_plain_twins_are_used() -> None:
    x = numbers(2, 4)
    assert fused.pays(x) and not fused.pays(x.double()) and not fused.pays(x.to("meta"))
    with torch.enable_grad():
        assert not fused.pays(x)
    assert not fused.stream_pays(x.bfloat16(), torch.float32)
