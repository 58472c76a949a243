"""The compiled passes of a training step against their plain twins: values, gradients, and no dependence on threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from farthing.data.sample import Sample
from farthing.learner.rows import FlatRows
from farthing.models import fused_rows, fused_training, head
from farthing.models.head import token_logprobs
from farthing.models.rmsnorm import rms_norm
from farthing.models.rope import rotary_tables, rotate
from farthing.models.swiglu import swiglu

pytestmark = pytest.mark.skipif(
    fused_training.library() is None, reason="no C++ compiler, or FARTHING_FUSED=0"
)
has_rows = pytest.mark.skipif(fused_rows.library() is None, reason="no products of bfloat16 pairs")
BF16 = torch.bfloat16


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return made.requires_grad_()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def results(function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor]) -> list[Tensor]:
    """Outputs, and gradients of the inputs for weights that differ everywhere."""
    outs = function(*inputs)
    weights = [numbers(*out.shape, seed=90 + n).detach() for n, out in enumerate(outs)]
    total = sum((out.float() * weight).sum() for out, weight in zip(outs, weights, strict=True))
    return [out.detach() for out in outs] + list(torch.autograd.grad(total, inputs))


def alike(found: list[Tensor], expected: list[Tensor]) -> None:
    """Within bfloat16's rounding of the largest, half a percent on average; one in fifty rounded the other way."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        gap, size = (one.float() - other.float()).abs(), other.float().abs()
        bound, share = (0.02, 0.01) if one.dtype == BF16 else (1e-2, 5e-3)
        assert gap.max() <= bound * size.max() + 1e-6
        assert gap.mean() <= share * size.mean() + 1e-6


def checked(
    ours: Callable[..., tuple[Tensor, ...]], twin: Callable[..., tuple[Tensor, ...]], *inputs: Tensor
) -> None:
    found = results(ours, list(inputs))
    alike(found, results(twin, list(inputs)))
    for count in (1, 3):
        with threads(count):
            again = results(ours, list(inputs))
        assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True)), f"{count} threads"


def test_residual_and_norm() -> None:
    x, change, gain = numbers(2, 41, 48), numbers(2, 41, 48, seed=1, dtype=BF16), numbers(48, seed=2)

    def twin(x: Tensor, change: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        total = x + change
        return total, rms_norm(total, gain, 1e-6, BF16)

    checked(lambda x, c, g: fused_training.add_norm(x, c, g, 1e-6), twin, x, change, gain)
    total, normed = fused_training.add_norm(x, change, gain, 1e-6)
    assert torch.equal(total, x + change)
    assert (normed != twin(x, change, gain)[1]).float().mean() < 0.02
    checked(
        lambda x, g: fused_training.add_norm(x, None, g, 1e-6)[1:],
        lambda x, g: (rms_norm(x, g, 1e-6, BF16),),
        x,
        gain,
    )


@pytest.mark.parametrize("normed", [True, False])
def test_norm_and_rotation_of_heads(normed: bool) -> None:
    heads, keys, size, tokens = 4, 2, 16, 70
    qkv = numbers(tokens, (heads + 2 * keys) * size, dtype=BF16)
    gains = [numbers(size, seed=1), numbers(size, seed=2)] if normed else []
    frequencies = 1.0 / 100 ** (torch.arange(0, size, 2) / size)
    cos, sin = rotary_tables(frequencies, torch.arange(tokens), BF16)

    def ours(qkv: Tensor, *gains: Tensor) -> tuple[Tensor, ...]:
        given = gains or (None, None)
        made: tuple[Tensor, ...] = fused_training.Turn.apply(qkv, *given, cos, sin, (heads, keys, size), 1e-6)
        return made

    def twin(qkv: Tensor, *gains: Tensor) -> tuple[Tensor, ...]:
        qk, v = qkv.unflatten(-1, (-1, size)).split((heads + keys, keys), dim=-2)
        if gains:
            gain = torch.cat((gains[0].expand(heads, -1), gains[1].expand(keys, -1)))
            qk = rms_norm(qk, gain, 1e-6, BF16)
        return *rotate(qk, cos, sin, interleaved=False).split((heads, keys), dim=-2), v

    checked(ours, twin, qkv, *gains)
    for found, expected in zip(ours(qkv, *gains), twin(qkv, *gains), strict=True):
        assert (found != expected).float().mean() < 0.02


def test_the_gate() -> None:
    gate_up = (8 * numbers(3, 40, 70, dtype=BF16)).detach()
    gate_up[0, 0, :3] = torch.tensor([200.0, -200.0, 0.0])

    def twin(gate_up: Tensor) -> tuple[Tensor]:
        gate, up = gate_up.chunk(2, dim=-1)
        return (F.silu(gate) * up,)

    checked(lambda x: (swiglu(x),), twin, gate_up.requires_grad_())


@pytest.mark.parametrize("chunks", [1, 8])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_head(temperature: float, chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax kept or made again, compiled or plain: the same."""
    monkeypatch.setattr(head, "CHUNK_LOGITS", 0)
    monkeypatch.setattr(head, "CHUNK_TOKENS_LEAST", 128 // chunks)
    hidden, weight = numbers(120, 32, dtype=BF16), numbers(77, 32, seed=1)
    targets = torch.arange(120) % 77

    def read(hidden: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        found = token_logprobs(
            hidden, weight, targets, dtype=torch.float32, temperature=temperature, entropy=True
        )
        entropies.append(found[1])
        return found[:1]

    entropies: list[Tensor] = []
    found = results(read, [hidden, weight])
    monkeypatch.setattr(fused_training, "pays", lambda *coarse, wide=(): False)
    expected = results(read, [hidden, weight])
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*entropies, atol=1e-5, rtol=1e-5)
    alike(found[1:], expected[1:])


def groups(prompts: list[int], completions: list[list[int]]) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> list[int]:
        return torch.randint(100, (length,), generator=generator).tolist()

    return [
        Sample([*prompt, *draw(length)], len(prompt), 1.0)
        for prompt, lengths in zip(map(draw, prompts), completions, strict=True)
        for length in lengths
    ]


@has_rows
@pytest.mark.parametrize(("heads", "keys", "size"), [(4, 2, 64), (3, 1, 32), (2, 2, 96)])
@pytest.mark.parametrize(
    "samples",
    [
        groups([37, 16, 5], [[1, 30, 7], [70, 4], [20, 1]]),
        groups([3], [[2]]),
        groups([126, 126], [[128] * 3, [128, 17]]),
    ],
    ids=["many lengths", "one short row", "two groups"],
)
def test_rows_of_a_micro_batch(samples: list[Sample], heads: int, keys: int, size: int) -> None:
    """Against rectangles of plain products, prompts shared by samples of many lengths; nothing leaks between rows."""
    flat = FlatRows(samples)
    n = flat.layout.size
    seen = torch.zeros(n, 1, 1)
    for segment, start in zip(flat.layout.segments, flat.layout.starts, strict=True):
        seen[start : start + segment.length] = 1.0
    q = numbers(n, heads, size, dtype=BF16)
    k, v = (numbers(n, keys, size, dtype=BF16, seed=seed) for seed in (1, 2))

    def ours(*qkv: Tensor) -> tuple[Tensor]:
        assert fused_rows.pays(*qkv, flat.longest)
        return (fused_rows.attend_rows(*qkv, flat.rows, 0.2) * seen.to(BF16),)

    def twin(*qkv: Tensor) -> tuple[Tensor]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("farthing.learner.rows.pays", lambda *_: False)
            return (flat(0, *(x.unsqueeze(0) for x in qkv), 0.2)[0] * seen.to(BF16),)

    checked(ours, twin, q, k, v)


@has_rows
def test_rows_that_are_not_numbers_stay_so() -> None:
    flat = FlatRows(groups([20], [[9, 9]]))
    q, k, v = (numbers(flat.layout.size, 2, 32, dtype=BF16, seed=seed).detach() for seed in range(3))
    k[17, 0, 3] = float("nan")
    found = fused_rows.attend_rows(q, k, v, flat.rows, 0.2)
    assert found.isnan().any() and found[:16].isfinite().all()


def test_where_they_are_used() -> None:
    wide, coarse = torch.zeros(4, 8), torch.zeros(4, 8, dtype=BF16)
    assert fused_training.pays(coarse, wide=(wide,))
    assert not fused_training.pays(wide) and not fused_training.pays(coarse, wide=(coarse,))
    assert not fused_training.pays(coarse.to("meta"))
    if fused_rows.library() is not None:
        x = torch.zeros(4, 2, 32, dtype=BF16)
        assert fused_rows.pays(x, x, x, fused_rows.LONGEST_ROW)
        assert not fused_rows.pays(x, x, x, fused_rows.LONGEST_ROW + 1)
        assert not fused_rows.pays(x, x, x[..., :16], 4) and not fused_rows.pays(x.float(), x, x, 4)
