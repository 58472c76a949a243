"""The block table: fixed-size blocks of tokens, counted, shared by prefix, and conserved.

Sequences own tables of blocks. A full block is known by the chained hash of everything up to its end, so two sequences
with the same beginning share blocks; a hit is confirmed by comparing token ids, never by the hash alone. Only full
blocks are shared, so nothing is ever copied on write. No tensors live here.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from farthing.errors import EngineError


@dataclass
class Block:
    index: int
    references: int = 0
    prefix: int | None = None
    token_ids: tuple[int, ...] = ()
    holders: list[object] = field(default_factory=list)


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens, each made when it is first wanted: most caches are never full.
    A block's `holders` are the sequences whose slot has its contents."""

    def __init__(self, num_blocks: int, block_size: int = 16) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(f"a pool needs blocks: num_blocks {num_blocks}, block_size {block_size}")
        self.num_blocks, self.block_size = num_blocks, block_size
        self.blocks: list[Block] = []
        self.free: list[int] = []
        self.by_prefix: dict[int, int] = {}

    @property
    def num_free(self) -> int:
        return len(self.free) + self.num_blocks - len(self.blocks)

    def blocks_for(self, num_tokens: int) -> int:
        """How many blocks `num_tokens` tokens occupy."""
        return -(-num_tokens // self.block_size)

    def match(self, token_ids: Many[int]) -> list[int]:
        """The longest run of shared full blocks that spells the beginning of `token_ids`."""
        matched: list[int] = []
        prefix = 0
        for start in range(0, len(token_ids) - self.block_size + 1, self.block_size):
            content = tuple(token_ids[start : start + self.block_size])
            prefix = hash((prefix, content))
            index = self.by_prefix.get(prefix)
            if index is None or self.blocks[index].token_ids != content or not self.blocks[index].holders:
                break
            matched.append(index)
        return matched

    def acquire(self, shared: Many[int], num_new: int, holder: object) -> list[int]:
        """A table of the `shared` blocks followed by `num_new` fresh ones, all referenced once more."""
        if num_new > self.num_free:
            raise EngineError(f"{num_new} blocks wanted, {self.num_free} free")
        table = list(shared) + [self._fresh() for _ in range(num_new)]
        for index in table:
            self.blocks[index].references += 1
        return table

    def _fresh(self) -> int:
        if self.free:
            return self.free.pop()
        self.blocks.append(Block(len(self.blocks)))
        return len(self.blocks) - 1

    def publish(self, table: Many[int], token_ids: Many[int], holder: object) -> None:
        """Make the full blocks of a computed sequence known, so that others can share them from `holder`'s slot."""
        prefix = 0
        for position, index in enumerate(table):
            content = tuple(token_ids[position * self.block_size : (position + 1) * self.block_size])
            if len(content) < self.block_size:
                return
            prefix = hash((prefix, content))
            block = self.blocks[index]
            if block.prefix is None and prefix not in self.by_prefix:
                block.prefix, block.token_ids = prefix, content
                self.by_prefix[prefix] = index
            if block.prefix is not None and all(held is not holder for held in block.holders):
                block.holders.append(holder)

    def release(self, table: Many[int], holder: object) -> None:
        """Give a table back; `holder`'s slot no longer has the contents."""
        for index in table:
            block = self.blocks[index]
            block.references -= 1
            block.holders = [held for held in block.holders if held is not holder]
            if block.references == 0:
                self._forget(block)
                self.free.append(index)

    def _forget(self, block: Block) -> None:
        if block.prefix is not None and self.by_prefix.get(block.prefix) == block.index:
            del self.by_prefix[block.prefix]
        block.prefix, block.token_ids, block.holders = None, (), []

    def forget_prefixes(self) -> None:
        """Nobody may share what is in the blocks any more; who holds them keeps them."""
        for index in list(self.by_prefix.values()):
            self._forget(self.blocks[index])

    def check_integrity(self, tables: Many[Many[int]] | None = None) -> None:
        """Raise EngineError unless every block is either free or referenced, and, given all live tables, exactly as
        often as they say."""
        free = set(self.free)
        if len(free) != len(self.free):
            raise EngineError("a block is free twice")
        for block in self.blocks:
            if (block.references == 0) != (block.index in free):
                raise EngineError(
                    f"block {block.index} has {block.references} references and free={block.index in free}"
                )
        for prefix, index in self.by_prefix.items():
            if self.blocks[index].prefix != prefix:
                raise EngineError(f"block {index} is listed under a prefix that is not its own")
        if tables is not None:
            counted = [0] * len(self.blocks)
            for table in tables:
                for index in table:
                    counted[index] += 1
            for block, count in zip(self.blocks, counted, strict=True):
                if block.references != count:
                    raise EngineError(
                        f"block {block.index}: {block.references} references, {count} tables hold it"
                    )
