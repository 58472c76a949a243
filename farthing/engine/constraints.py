"""What a request may ask of its own tokens, put together: biases, penalties, a thought that ends, a grammar behind it.

    prompt ─▶ thought (free, but bounded) ─▶ closing tokens (forced) ─▶ answer (grammar)

The grammar begins at the first token behind the thought, or at token 0 where there is none. Everything is counted in
tokens and nothing in seconds, so a seed gives the same completion however busy the machine is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farthing.engine.grammar import Grammar

_NEVER = float("-inf")
_CHECK_EVERY = 32
_WINDOW = 512
_LONGEST_PERIOD = 128
_REPEATED = 192
"""A thought goes in circles when its last 192 tokens repeat with a period of at most 128, four times at least."""


@dataclass(frozen=True)
class ThoughtRule:
    """How a thought is bounded. `open_id` and `close_id` are its tags; `closing` is what ends it when it must end,
    `close_id` last, and `behind` what stands between the tag and the answer.

    `is_open`: the prompt ends inside the thought. `force_open`: the first token must open it. `forbid`: there must
    be none. `budget`: the most tokens it may take, None without a bound.
    """

    open_id: int
    close_id: int
    closing: tuple[int, ...]
    behind: tuple[int, ...] = ()
    is_open: bool = False
    force_open: bool = False
    forbid: bool = False
    budget: int | None = None


class Thought:
    """The state of one thought: not begun, open, being closed, over."""

    def __init__(self, rule: ThoughtRule, settle: bool) -> None:
        """`settle`: what stands behind the closing tag is forced too, for an answer that a grammar begins."""
        self.rule = rule
        self.is_open = rule.is_open
        self.tokens = 0
        self.why_closed: str | None = None
        self._settle = settle
        self._forced: deque[int] = deque([rule.open_id] if rule.force_open and not rule.is_open else [])
        self._recent: deque[int] = deque(maxlen=_WINDOW)
        if self.is_open:
            self._bound()

    @property
    def forced(self) -> int | None:
        """The token that must come next, if it is decided."""
        return self._forced[0] if self._forced else None

    @property
    def is_over(self) -> bool:
        """Whether the next token belongs to the answer."""
        return not self.is_open and not self._forced

    def close(self, why: str) -> None:
        """End the thought now. Does nothing where none is open or it is being closed already."""
        if self.is_open and not self._forced:
            self.why_closed = why
            self._forced.extend((*self.rule.closing, *self.rule.behind))

    def accept(self, token_id: int) -> None:
        forced = bool(self._forced)
        if forced:
            self._forced.popleft()
        if self.is_open:
            self._think(token_id, forced)
        elif token_id == self.rule.open_id and not self.rule.forbid:
            self.is_open = True
            self._bound()

    def _think(self, token_id: int, forced: bool) -> None:
        if token_id == self.rule.close_id:
            self.is_open = False
            if not forced:
                self.why_closed = "itself"
                self._forced.extend(self.rule.behind if self._settle else ())
            return
        self.tokens += 1
        self._recent.append(token_id)
        if forced:
            return
        self._bound()
        if self.tokens % _CHECK_EVERY == 0 and goes_in_circles(np.fromiter(self._recent, np.int64)):
            self.close("loop")

    def _bound(self) -> None:
        if self.rule.budget is not None and self.tokens >= self.rule.budget:
            self.close("budget")


def goes_in_circles(token_ids: np.ndarray) -> bool:
    """Whether the end of a text, int64 [n], repeats itself often enough that nothing new will come."""
    if len(token_ids) < _REPEATED:
        return False
    tail = token_ids[-_REPEATED:]
    for period in range(1, _LONGEST_PERIOD + 1):
        needed = max(_REPEATED, 4 * period)
        if len(token_ids) < needed or tail[-1] != tail[-1 - period]:
            continue
        end = token_ids[-needed:]
        if (end[period:] == end[:-period]).all():
            return True
    return False


@dataclass
class Steering:
    """Everything one request asks for, as the engine's `Constraint`.

    `failure` says why the request cannot go on, where its grammar failed; it is then made to stop.
    """

    stop_ids: tuple[int, ...] = ()
    bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    thought: Thought | None = None
    grammar: Grammar | None = None
    failure: str | None = None

    def __post_init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._penalised = bool(self.presence_penalty or self.frequency_penalty)
        self._tags = () if self.thought is None else (self.thought.rule.open_id, self.thought.rule.close_id)

    @property
    def shapes(self) -> bool:
        if self.bias or self._penalised or self.failure is not None:
            return True
        thought = self.thought
        return self.grammar is not None or (
            thought is not None and (thought.forced is not None or thought.rule.forbid)
        )

    def shape(self, logits_V: Tensor) -> None:
        if self.failure is not None:
            keep_only(logits_V, self.stop_ids)
        elif self.thought is not None and self.thought.forced is not None:
            keep_only(logits_V, (self.thought.forced,))
        else:
            self._shape_freely(logits_V)

    def _shape_freely(self, logits_V: Tensor) -> None:
        if self.bias:
            ids = torch.tensor(list(self.bias))
            logits_V[ids] += torch.tensor(list(self.bias.values()))
        if self._penalised and self._counts:
            ids = torch.tensor(list(self._counts))
            counts = torch.tensor(list(self._counts.values()), dtype=torch.float32)
            logits_V[ids] -= self.presence_penalty + self.frequency_penalty * counts
        if self.thought is not None and self.thought.rule.forbid:
            logits_V[self.thought.rule.open_id] = _NEVER
        if self.grammar is None:
            return
        if self.thought is None or self.thought.is_over:
            self._shape_by_grammar(self.grammar, logits_V)
        else:  # a turn that ended inside its thought would have no answer for the grammar to be true of
            logits_V[list(self.stop_ids)] = _NEVER

    def _shape_by_grammar(self, grammar: Grammar, logits_V: Tensor) -> None:
        allowed = grammar.allowed(len(logits_V))
        allowed[list(self._tags)] = False
        if grammar.is_accepting:
            allowed[list(self.stop_ids)] = True
        if grammar.failure is not None or not allowed.any():
            self.failure = grammar.failure or "the grammar allows no token"
            keep_only(logits_V, self.stop_ids)
            return
        logits_V.masked_fill_(torch.from_numpy(~allowed), _NEVER)

    def accept(self, token_id: int) -> None:
        answering = self.thought is None or self.thought.is_over
        if self.thought is not None:
            self.thought.accept(token_id)
        if self._penalised:
            self._counts[token_id] += 1
        if self.grammar is not None and answering and self.failure is None and token_id not in self.stop_ids:
            opened = self.thought is not None and not self.thought.is_over
            if not opened:
                self.grammar.accept(token_id)
                self.failure = self.grammar.failure

    def close_thought(self) -> None:
        """The person wants the answer now."""
        if self.thought is not None:
            self.thought.close("asked")


def keep_only(logits_V: Tensor, token_ids: tuple[int, ...]) -> None:
    """Make everything else impossible; these stay as likely, among themselves, as they were."""
    kept = logits_V[list(token_ids)].clone()
    logits_V.fill_(_NEVER)
    logits_V[list(token_ids)] = kept


def steering_from(
    spec: Mapping[str, Any], grammar: Grammar | None, stop_ids: tuple[int, ...]
) -> Steering | None:
    """From the plain values that come over the socket; None where nothing is asked for."""
    rule = ThoughtRule(**_tuples(spec["thought"])) if spec.get("thought") else None
    if (
        rule is None
        and grammar is None
        and not any(spec.get(key) for key in ("bias", "presence", "frequency"))
    ):
        return None
    return Steering(
        stop_ids=stop_ids,
        bias={int(token): float(value) for token, value in spec.get("bias") or ()},
        presence_penalty=float(spec.get("presence", 0.0)),
        frequency_penalty=float(spec.get("frequency", 0.0)),
        thought=None if rule is None else Thought(rule, settle=grammar is not None),
        grammar=grammar,
    )


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
