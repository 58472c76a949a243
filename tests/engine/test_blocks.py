"""The block table: blocks are conserved, shared only where texts are equal, and known only while somebody has them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farthing.engine.blocks import BlockPool
from farthing.errors import EngineError

BLOCKS, SIZE = 12, 4


class Holder:
    """Somebody with a slot."""

    def __init__(self, tokens: list[int], table: list[int]) -> None:
        self.tokens, self.table = tokens, table


class Pool(RuleBasedStateMachine):
    """Sequences of few different tokens come, publish, share and go, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(BLOCKS, SIZE)
        self.holders: list[Holder] = []

    @rule(tokens=st.lists(st.integers(0, 1), max_size=20), extra=st.integers(0, 3))
    def come(self, tokens: list[int], extra: int) -> None:
        shared = self.pool.match(tokens)
        for index, start in zip(shared, range(0, len(tokens), SIZE), strict=False):
            content = tuple(tokens[start : start + SIZE])
            assert len(content) == SIZE and self.pool.blocks[index].token_ids == content
            assert self.pool.blocks[index].holders, "a match that nobody can be copied from"
        needed = self.pool.blocks_for(len(tokens) + extra) - len(shared)
        holder = Holder(tokens, [])
        if needed > self.pool.num_free:
            before = self.pool.num_free
            with pytest.raises(EngineError, match="free"):
                self.pool.acquire(shared, needed, holder)
            assert self.pool.num_free == before
            return
        holder.table = self.pool.acquire(shared, needed, holder)
        assert holder.table[: len(shared)] == shared
        self.holders.append(holder)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(self.holders))
        self.pool.publish(holder.table, holder.tokens, holder)
        full = len(holder.tokens) // SIZE
        assert len(self.pool.match(holder.tokens)) == full, "what was published is not found"

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        holder = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
        self.pool.release(holder.table, holder)
        assert all(holder not in block.holders for block in self.pool.blocks)

    @invariant()
    def books_balance(self) -> None:
        self.pool.check_integrity([holder.table for holder in self.holders])
        used = {index for holder in self.holders for index in holder.table}
        assert len(used) + self.pool.num_free == BLOCKS
        for block in self.pool.blocks:
            assert all(block.index in holder.table for holder in block.holders)  # type: ignore[attr-defined]


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_only_equal_beginnings_are_shared() -> None:
    """The same block of tokens behind another beginning is another block."""
    pool = BlockPool(8, 4)
    first = Holder([1, 2, 3, 4, 5, 6, 7, 8, 9], pool.acquire([], 3, None))
    pool.publish(first.table, first.tokens, first)
    assert pool.match([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]) == first.table[:2]
    assert pool.match([1, 2, 3, 4, 5, 6, 7]) == first.table[:1]
    assert pool.match([5, 6, 7, 8]) == []
    assert pool.match([1, 2, 3, 0, 5, 6, 7, 8]) == []


def test_a_hash_alone_is_never_believed() -> None:
    """hash(-1) == hash(-2) in CPython: two texts with one hash are told apart by their tokens."""
    assert hash((0, (-1, 3))) == hash((0, (-2, 3)))
    pool = BlockPool(4, 2)
    holder = Holder([-1, 3], pool.acquire([], 1, None))
    pool.publish(holder.table, holder.tokens, holder)
    assert pool.match([-1, 3]) == holder.table
    assert pool.match([-2, 3]) == []


def test_a_block_outlives_the_one_who_computed_it() -> None:
    pool = BlockPool(4, 2)
    text = [1, 2, 3]
    first = Holder(text, pool.acquire([], 2, None))
    pool.publish(first.table, text, first)
    second = Holder(text, pool.acquire(pool.match(text), 1, None))
    assert second.table[0] == first.table[0]
    pool.publish(second.table, text, second)
    pool.release(first.table, first)
    assert pool.match(text) == second.table[:1]
    pool.release(second.table, second)
    assert pool.match(text) == [] and pool.num_free == 4


@pytest.mark.parametrize(("blocks", "size"), [(0, 4), (4, 0), (-1, 4)])
def test_a_pool_needs_blocks(blocks: int, size: int) -> None:
    with pytest.raises(ValueError, match="needs blocks"):
        BlockPool(blocks, size)


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_blocks_for(tokens: int, size: int) -> None:
    blocks = BlockPool(1, size).blocks_for(tokens)
    assert blocks * size >= tokens > (blocks - 1) * size or tokens == blocks == 0


def damage_twice_free(pool: BlockPool) -> None:
    pool.free.append(pool.free[0])


def damage_lost(pool: BlockPool) -> None:
    pool.free.pop()


def damage_count(pool: BlockPool) -> None:
    pool.blocks[pool.acquire([], 1, None)[0]].references += 1


def damage_prefix(pool: BlockPool) -> None:
    pool.by_prefix[99] = 0


@pytest.mark.parametrize("damage", [damage_twice_free, damage_lost, damage_count, damage_prefix])
def test_wrong_books_are_found(damage: object) -> None:
    pool = BlockPool(4, 2)
    pool.release(pool.acquire([], 4, None), None)
    pool.check_integrity([])
    damage(pool)  # type: ignore[operator]
    with pytest.raises(EngineError, match="block"):
        pool.check_integrity([[3]] if damage is damage_count else [])
