"""Slow and fast agree token for token: a full forward pass per token without any cache is the judge of batching,
preemption, shared prefixes, chunked prefill and rows that cross key buckets.

A difference is excused only where rounding decides: two greedy logits nearer than 1e-4, or a uniform number nearer
than 1e-4 to the edge between the two tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from farthing.engine.api import Completion, Request, SamplingParams
from farthing.engine.engine import Engine
from farthing.models import fused
from farthing.models.decoder import Decoder

Slow = Callable[[Decoder, Request], list[int]]
Check = Callable[[Decoder, Request, Sequence[int], Sequence[int]], None]
Make = Callable[..., list[Request]]

ENGINES = {
    "batched": {},
    "two at a time": {"max_running": 2},
    "alone": {"max_running": 1},
    "preempted": {"cache_tokens": 176},
    "chunked": {"prefill_tokens": 5},
    "chunked and preempted": {"prefill_tokens": 7, "cache_tokens": 208, "max_running": 6},
    "cold prefixes": {"keep_prefixes": True, "cache_tokens": 320, "prefill_tokens": 11},
}


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["greedy", "sampled"])
def judged(
    request: pytest.FixtureRequest, model: Decoder, slow: Slow, requests_of: Make
) -> list[tuple[Request, list[int]]]:
    """Requests, half of them behind a common beginning, with their slow completions."""
    common = list(range(20, 40))
    temperature = request.param
    requests = requests_of(10, seed=1, temperature=temperature, lengths=(1, 40))
    requests += requests_of(10, seed=2, temperature=temperature, prefix=common, lengths=(1, 30))
    return [(one, slow(model, one)) for one in requests]


@pytest.mark.parametrize("settings", ENGINES.values(), ids=ENGINES)
def test_every_way_gives_the_slow_tokens(
    settings: dict[str, int], model: Decoder, judged: list[tuple[Request, list[int]]], same_tokens: Check
) -> None:
    engine = Engine(model, **settings)  # type: ignore[arg-type]
    for (request, expected), completion in zip(
        judged, engine.generate([request for request, _ in judged]), strict=True
    ):
        assert completion.request_id == request.request_id
        same_tokens(model, request, completion.token_ids, expected)
    engine.check_integrity()


@pytest.mark.parametrize("settings", [{}, ENGINES["chunked and preempted"]], ids=["batched", "preempted"])
def test_without_a_compiler_the_tokens_are_the_same(
    settings: dict[str, int],
    model: Decoder,
    judged: list[tuple[Request, list[int]]],
    same_tokens: Check,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused, "library", lambda: None)
    test_every_way_gives_the_slow_tokens(settings, model, judged, same_tokens)


def test_preemption_takes_place_in_the_preempted_case(
    model: Decoder, judged: list[tuple[Request, list[int]]]
) -> None:
    engine = Engine(model, **ENGINES["preempted"])  # type: ignore[arg-type]
    preempted = []
    original = engine.scheduler.preempt
    engine.scheduler.preempt = lambda sequence: (preempted.append(sequence), original(sequence))[1]  # type: ignore[method-assign]
    engine.generate([request for request, _ in judged])
    assert len(preempted) > 3


def test_latent_attention_is_cached_as_latents(
    latent_model: Decoder, slow: Slow, same_tokens: Check, requests_of: Make
) -> None:
    requests = requests_of(6, seed=3, temperature=0.0, lengths=(2, 60), new_tokens=(3, 12))
    for settings in ({}, {"cache_tokens": 160, "prefill_tokens": 9}):
        engine = Engine(latent_model, **settings)  # type: ignore[arg-type]
        for request, completion in zip(requests, engine.generate(requests), strict=True):
            same_tokens(latent_model, request, completion.token_ids, slow(latent_model, request))


def test_mixed_lengths_that_cross_key_buckets(
    model: Decoder, slow: Slow, same_tokens: Check, requests_of: Make
) -> None:
    """Short rows overtake long ones that end; rows change places whenever one passes 64, 128 or 192 keys."""
    requests = requests_of(14, seed=4, lengths=(1, 150), new_tokens=(1, 90))
    requests = [replace(r, params=replace(r.params, stop_token_ids=())) for r in requests]
    for request, completion in zip(requests, Engine(model).generate(requests), strict=True):
        assert completion.finish_reason == "length"
        same_tokens(model, request, completion.token_ids, slow(model, request))


def test_a_token_depends_on_nothing_else_in_the_batch(
    model: Decoder, same_tokens: Check, requests_of: Make
) -> None:
    """Whatever else is generated, before, beside or after; and again in any order."""
    requests = requests_of(40, seed=5, lengths=(1, 80), new_tokens=(2, 60))
    together = Engine(model).generate(requests)
    backwards = Engine(model, max_running=7).generate(requests[::-1])[::-1]
    engine = Engine(model)
    for index in (0, 13, 39):
        alone = engine.generate([requests[index]])[0]
        same_tokens(model, requests[index], alone.token_ids, together[index].token_ids)
    for request, one, other in zip(requests, together, backwards, strict=True):
        same_tokens(model, request, one.token_ids, other.token_ids)


def test_equal_seeds_repeat_and_different_seeds_differ(model: Decoder) -> None:
    def ask(seed: int, engine: Engine) -> list[int]:
        params = SamplingParams(max_new_tokens=30, seed=seed)
        return engine.generate([Request((1, 2, 3), params)])[0].token_ids

    engine = Engine(model)
    assert ask(11, engine) == ask(11, Engine(model))
    assert len({tuple(ask(seed, engine)) for seed in (*range(20), -1, 2**64 - 2)}) == 22
    assert ask(-1, engine) == ask(2**64 - 1, engine), "seeds count modulo 2^64"


def test_a_group_has_the_completions_its_seeds_have_alone(model: Decoder, same_tokens: Check) -> None:
    """Equal prompts are computed once and copied; that changes nothing."""
    prompt = tuple(range(50, 13, -1))
    group = [Request(prompt, SamplingParams(max_new_tokens=24, seed=seed), str(seed)) for seed in range(12)]
    together = Engine(model, prefill_tokens=50).generate(group)
    assert len({tuple(completion.token_ids) for completion in together}) == 12
    for request, completion in zip(group, together, strict=True):
        alone = Engine(model).generate([request])[0]
        same_tokens(model, request, completion.token_ids, alone.token_ids)


@torch.no_grad()
def test_logprobs_are_those_of_a_full_forward_pass(model: Decoder, requests_of: Make) -> None:
    """`logprobs`: the raw model. `sampling_logprobs`: after temperature, top-k and top-p; 0 for a greedy choice."""
    shapes = [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.3, 5, 1.0), (1.0, 0, 0.8), (0.9, 12, 0.9), (0.0, 0, 1.0)]
    requests = [
        replace(r, params=replace(r.params, temperature=t, top_k=k, top_p=p))
        for (t, k, p), r in zip(shapes, requests_of(6, seed=6, lengths=(2, 90)), strict=True)
    ]
    for request, completion in zip(
        requests, Engine(model, prefill_tokens=32).generate(requests), strict=True
    ):
        assert len(completion.logprobs) == len(completion.sampling_logprobs) == len(completion.token_ids)
        ids = [*request.prompt_ids, *completion.token_ids]
        raw = model(torch.tensor([ids]))[0, len(request.prompt_ids) - 1 : -1].double().log_softmax(-1)
        chosen = torch.tensor(completion.token_ids)
        expected = raw.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(torch.tensor(completion.logprobs).double(), expected, atol=1e-4, rtol=0)
        shaped = torch.stack([by_hand(row, request.params) for row in raw])
        expected = shaped.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        found = torch.tensor(completion.sampling_logprobs).double()
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def by_hand(logprobs_V: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The distribution drawn from, one token after the other."""
    if params.temperature == 0:
        return torch.zeros_like(logprobs_V)
    probability = (logprobs_V / params.temperature).softmax(-1)
    kept, mass = [], 0.0
    for rank, token in enumerate(probability.argsort(descending=True).tolist()):
        if (params.top_k and rank >= params.top_k) or mass >= params.top_p:
            break
        kept.append(token)
        mass += float(probability[token])
    out = torch.full_like(probability, float("-inf"))
    out[kept] = (probability[kept] / probability[kept].sum()).log()
    return out


def test_streaming_says_what_generate_says(model: Decoder, requests_of: Make) -> None:
    requests = requests_of(5, seed=7)
    whole = Engine(model).generate(requests)
    engine, events = Engine(model, prefill_tokens=16), []
    for request in requests:
        engine.add(request)
    while not engine.scheduler.is_idle:
        events += engine.step()
    for request, completion in zip(requests, whole, strict=True):
        own = [event for event in events if event.request_id == request.request_id]
        assert [event.token_id for event in own] == completion.token_ids
        assert [event.completion is None for event in own] == [True] * (len(own) - 1) + [False]
        last: Completion | None = own[-1].completion
        assert last is not None and last.token_ids == completion.token_ids
        torch.testing.assert_close([event.logprob for event in own], completion.logprobs, atol=1e-5, rtol=0)
    streamed = list(Engine(model).stream(requests[0]))
    assert [event.token_id for event in streamed] == whole[0].token_ids
