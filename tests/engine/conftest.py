"""A tiny random decoder, and generation written the slow way: no cache, no batch, the whole text at every token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from farthing.engine.api import Completion, Request, SamplingParams
from farthing.engine.sampler import Filters, sample, uniforms
from farthing.models.config import MLAConfig, ModelConfig
from farthing.models.decoder import Decoder, initialise

VOCAB = 61
# Two numbers nearer than this may change places when a sum is taken in another order.
TIE = 1e-4


def tiny_config(**changes: object) -> ModelConfig:
    """Wide enough weights that a random model has opinions."""
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "qk_norm": True,
        "tie_word_embeddings": True,
        "initializer_range": 0.4,
    }
    return ModelConfig(**(sizes | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def model() -> Decoder:
    return initialise(Decoder(tiny_config()), 5)


@pytest.fixture(scope="session")
def latent_model() -> Decoder:
    """Latent attention: the cache holds one shared key head and no values."""
    mla = MLAConfig(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)
    return initialise(Decoder(tiny_config(qk_norm=False, mla=mla)), 6)


def slowly(model: Decoder, request: Request) -> list[int]:
    """The completion of one request by a full forward pass per token."""
    ids, params = list(request.prompt_ids), request.params
    for _ in range(params.max_new_tokens):
        token = drawn(model, ids, params, 0.0)
        ids.append(token)
        if token in params.stop_token_ids:
            break
    return ids[len(request.prompt_ids) :]


@torch.no_grad()
def drawn(model: Decoder, ids: Sequence[int], params: SamplingParams, shift: float) -> int:
    """The token that follows `ids`, had the uniform number been larger by `shift`."""
    logits = model(torch.tensor([ids]))[:, -1]
    filters = Filters(np.array([params.temperature]), np.array([params.top_k]), np.array([params.top_p]))
    seed = np.array([params.seed & (2**64 - 1)], np.uint64)
    number = np.clip(uniforms(seed, np.array([len(ids)])) + shift, 0.0, 1 - 1e-12)
    return int(sample(logits, filters, number).token_ids)


def is_tie(model: Decoder, ids: Sequence[int], params: SamplingParams, pair: set[int]) -> bool:
    """Whether rounding decides between the two tokens."""
    if params.temperature == 0:
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0, -1]
        first, second = logits.topk(2).values.tolist()
        return first - second < TIE
    return pair == {drawn(model, ids, params, -TIE), drawn(model, ids, params, TIE)}


Check = Callable[[Decoder, Request, Sequence[int], Sequence[int]], None]


@pytest.fixture(scope="session")
def same_tokens() -> Check:
    """Asserts that two completions of a request are equal, or part where rounding decides."""

    def check(model: Decoder, request: Request, found: Sequence[int], expected: Sequence[int]) -> None:
        if list(found) == list(expected):
            return
        at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
        assert at is not None, f"{len(found)} tokens, expected {len(expected)}"
        before = [*request.prompt_ids, *found[:at]]
        assert is_tie(model, before, request.params, {found[at], expected[at]}), f"they part at token {at}"

    return check


@pytest.fixture(scope="session")
def slow() -> Callable[[Decoder, Request], list[int]]:
    return slowly


def make_requests(
    count: int,
    *,
    seed: int = 0,
    lengths: tuple[int, int] = (3, 40),
    new_tokens: tuple[int, int] = (4, 40),
    temperature: float = 1.0,
    prefix: Sequence[int] = (),
) -> list[Request]:
    """Random prompts, each behind `prefix`, of different lengths and limits."""
    rng = np.random.default_rng(seed)
    requests = []
    for index in range(count):
        prompt = rng.integers(0, VOCAB, rng.integers(*lengths, endpoint=True)).tolist()
        params = SamplingParams(
            max_new_tokens=int(rng.integers(*new_tokens, endpoint=True)),
            temperature=temperature,
            seed=int(rng.integers(0, 2**63)),
            stop_token_ids=(7,),
        )
        requests.append(Request((*prefix, *prompt), params, str(index)))
    return requests


@pytest.fixture(scope="session")
def requests_of() -> Callable[..., list[Request]]:
    return make_requests


def token_ids(completions: Sequence[Completion]) -> list[list[int]]:
    return [completion.token_ids for completion in completions]
