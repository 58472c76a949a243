"""What one asks of a generator and what comes back: token ids in, token ids and their log-probabilities out.

The engine knows no text, no task and no template. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length", "broken", "aborted"]


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn.

    `temperature` 0 is greedy. `top_k` 0 and `top_p` 1.0 filter nothing. A token is a function of (logits, `seed`,
    position): equal seeds and equal prompts give equal completions, whatever else is being generated.
    `top_logprobs`: how many of the likeliest tokens are reported beside each drawn one. `prompt_logprobs`: the
    prompt's own tokens are scored too. `embed`: the prompt becomes one vector, `Completion.embedding`; such a request
    draws the one token that ends it and nothing else. A prompt of either kind is computed whole, whatever is cached.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop_token_ids: tuple[int, ...] = ()
    top_logprobs: int = 0
    prompt_logprobs: bool = False
    embed: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, is {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], is {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must not be negative, is {self.top_k}")
        if self.top_logprobs < 0:
            raise ValueError(f"top_logprobs must not be negative, is {self.top_logprobs}")
        if self.embed and self.max_new_tokens != 1:
            raise ValueError(f"with embed max_new_tokens must be 1, not {self.max_new_tokens}")

    @property
    def reads_prompt(self) -> bool:
        """Whether states of the prompt itself are asked for."""
        return self.prompt_logprobs or self.embed


class Constraint(Protocol):
    """A request's say in its own next token: biases, a grammar, a thought that has to end.

    It is told every token that is drawn for it, in order, and asked to `shape` a distribution only while `shapes` is
    true. Requests without one pay nothing for it.
    """

    @property
    def shapes(self) -> bool:
        """Whether the next distribution is to be changed."""
        ...

    def shape(self, logits_V: Any) -> None:
        """Change a row of float32 logits in place; at least one token must stay possible."""
        ...

    def accept(self, token_id: int) -> None:
        """This token was drawn."""
        ...


@dataclass(frozen=True)
class Request:
    """One prompt to continue once. Several samples of a prompt are several requests with different seeds: their
    prompt is computed once all the same. `state`: where the completion begins in the engine's automaton; 0: nothing
    but a stop token and the limit ends it."""

    prompt_ids: tuple[int, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    request_id: str = ""
    constraint: Constraint | None = field(default=None, compare=False, repr=False)
    state: int = 0


Top = tuple[tuple[int, float], ...]
"""(token id, log-probability) of the likeliest tokens, best first."""


@dataclass(frozen=True)
class Completion:
    """`token_ids` includes the stop token that ended it. `finish_reason` "length": the limit, or less room before it
    than the automaton needs; "broken": the automaton says never. Both lists of log-probabilities have one entry per
    token: `logprobs` of the raw model at temperature 1, `sampling_logprobs` of the distribution the token was drawn
    from (0.0 where the choice was greedy). `cached_tokens`: how much of the prompt was not computed again.
    `prompt_logprobs` and `prompt_top`, where they were asked for, begin with the prompt's second token. `embedding`,
    where it was asked for: `hidden_size` float32 numbers, the mean over the prompt's tokens of the states behind the
    final norm, scaled to length 1."""

    request_id: str
    token_ids: list[int]
    logprobs: list[float]
    sampling_logprobs: list[float]
    finish_reason: FinishReason
    policy_version: int
    cached_tokens: int = 0
    prompt_logprobs: tuple[float, ...] = ()
    prompt_top: tuple[Top, ...] = ()
    embedding: tuple[float, ...] = ()


@dataclass(frozen=True)
class TokenEvent:
    """One token of one request, as it is drawn; `completion` is set on the last. `logprob` and `top` are of the raw
    model at temperature 1."""

    request_id: str
    token_id: int
    logprob: float
    completion: Completion | None = None
    top: Top = ()


class Generator(Protocol):
    """Whatever turns requests into completions: the native engine, a vLLM server, a test double."""

    def generate(self, requests: Many[Request]) -> list[Completion]:
        """Completions in the order of the requests."""
        ...
