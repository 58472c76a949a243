"""A request on its way through the engine, and a stretch of it to compute. No tensors."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from farthing.engine.api import Request, Top


@dataclass(eq=False)
class Sequence:
    """A request on its way. `generated` is filled in when the sequence leaves its slot. `last_block`: where the block
    began that was its last when it began to decode."""

    request: Request
    arrival: int
    generated: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampling_logprobs: list[float] = field(default_factory=list)
    table: list[int] = field(default_factory=list)
    num_computed: int = 0
    last_block: int = 0
    donor: Sequence | None = None
    cached_tokens: int = 0
    is_stale: bool = False
    top: list[Top] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    prompt_top: list[Top] = field(default_factory=list)
    embedding: list[float] = field(default_factory=list)

    @property
    def token_ids(self) -> list[int]:
        """Prompt and everything generated before it last left its slot."""
        return list(self.request.prompt_ids) + self.generated

    @property
    def num_known(self) -> int:
        return len(self.request.prompt_ids) + len(self.generated)

    @property
    def num_to_write(self) -> int:
        """How many tokens may still get keys and values beside those that are known."""
        return 0 if self.request.params.embed else self.request.params.max_new_tokens

    def computed(self, start: int, end: int) -> list[int]:
        """The tokens of [start, end) whose keys and values are in its slot for sure."""
        prompt, end = self.request.prompt_ids, min(end, self.num_computed)
        behind = len(prompt)
        return [*prompt[start:end], *self.generated[max(start - behind, 0) : max(end - behind, 0)]]


@dataclass(frozen=True)
class Chunk:
    """Tokens [start, end) of a sequence to prefill now; the last chunk also yields the next token."""

    sequence: Sequence
    start: int
    end: int

    @property
    def is_last(self) -> bool:
        return self.end == self.sequence.num_known


def num_alike(one: Many[int], other: Many[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
