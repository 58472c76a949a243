"""Keys and values in their slots: how rows are ordered, moved and grown."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farthing.engine.slots import KEY_BUCKET, ROW_QUANTUM, Slots, buckets, ordering, padded_rows

lengths = st.lists(st.integers(1, 5 * KEY_BUCKET), min_size=1, max_size=40).map(np.array)


@given(lengths)
def test_ordering_sorts_by_bucket_with_the_fewest_moves(keys: np.ndarray) -> None:
    sources, targets = ordering(keys)
    assert sorted(sources) == sorted(targets)
    moved = keys.copy()
    moved[targets] = keys[sources]
    rank = -(-moved // KEY_BUCKET)
    assert (np.diff(rank) <= 0).all(), "longest first"
    assert sorted(moved) == sorted(keys)
    before = -(-keys // KEY_BUCKET)
    assert len(sources) == int((before != np.sort(before)[::-1]).sum())


@given(lengths)
def test_buckets_cover_every_row_once(keys: np.ndarray) -> None:
    """And the padded length of a row is a function of its own length alone."""
    keys = np.sort(keys)[::-1]
    spans = buckets(keys)
    assert [row for start, end, _ in spans for row in range(start, end)] == list(range(len(keys)))
    for start, end, padded in spans:
        assert (-(-keys[start:end] // KEY_BUCKET) * KEY_BUCKET == padded).all()


@given(st.integers(0, 1000))
def test_padded_rows(rows: int) -> None:
    assert padded_rows(rows) % ROW_QUANTUM == 0
    assert 0 <= padded_rows(rows) - rows < ROW_QUANTUM


@pytest.fixture
def slots() -> Slots:
    """Two layers, three slots of one bucket, filled with numbers that say where they are."""
    slots = Slots(((2, 3), (1, 4)), 2, torch.float32)
    slots.reserve(3, 50)
    for store in (slots.keys, slots.values):
        store.copy_(torch.arange(store.numel(), dtype=torch.float32).view(store.shape))
    return slots


def test_room_grows_and_contents_stay(slots: Slots) -> None:
    keys, values = slots.keys.clone(), slots.values.clone()
    slots.reserve(2, 10)
    assert slots.keys.shape == (2, 3, 2, KEY_BUCKET, 3), "there was room"
    slots.reserve(5, KEY_BUCKET + 1)
    assert slots.keys.shape == (2, 5, 2, 2 * KEY_BUCKET, 3) and slots.num_slots == 5
    assert torch.equal(slots.keys[:, :3, :, :KEY_BUCKET], keys)
    assert torch.equal(slots.values[:, :3, :, :KEY_BUCKET], values)
    slots.reserve(1, 2 * KEY_BUCKET + 1, held=[KEY_BUCKET, 7])
    assert slots.num_slots == 2, "what nobody has taken is let go"
    assert torch.equal(slots.keys[:, 0, :, :KEY_BUCKET], keys[:, 0])
    assert torch.equal(slots.values[:, 1, :, :7], values[:, 1, :, :7])
    assert not slots.keys[:, 1, :, 7:].any(), "and of what is taken only what is held is moved"
    slots.clear()
    assert slots.num_slots == 0


def test_room_that_nobody_writes_takes_no_memory() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux tells what is resident")
    slots, before = Slots(((2, 64), (2, 64)), 4, torch.bfloat16), resident()
    slots.reserve(256, 4096)
    slots.reserve(512, 8192, held=[100] * 256)
    assert slots.keys.nbytes == 4 << 30
    assert resident() - before < 512 << 20, "held are 200 MiB"
    slots.clear()
    assert resident() - before < 64 << 20, "and given back"


def test_rows_change_places_all_at_once(slots: Slots) -> None:
    keys = slots.keys.clone()
    slots.permute([0, 1, 2], [1, 2, 0], 40)
    for source, target in ((0, 1), (1, 2), (2, 0)):
        assert torch.equal(slots.keys[:, target, :, :40], keys[:, source, :, :40])


def test_a_prefix_is_copied_and_no_more(slots: Slots) -> None:
    keys, values = slots.keys.clone(), slots.values.clone()
    slots.copy(0, 2, 0, 16)
    assert torch.equal(slots.keys[:, 2, :, :16], keys[:, 0, :, :16])
    assert torch.equal(slots.values[:, 2, :, :16], values[:, 0, :, :16])
    assert torch.equal(slots.keys[:, 2, :, 16:], keys[:, 2, :, 16:])


def test_latents_are_their_own_values() -> None:
    slots = Slots(((1, 6), (1, 0)), 2, torch.float32)
    slots.reserve(2, 8)
    keys, values = slots.of(1, 4)
    keys[0, 0, 3] = torch.arange(6.0)
    assert values.shape == (2, 1, KEY_BUCKET, 4)
    assert values[0, 0, 3].tolist() == [0, 1, 2, 3]
