"""What requests ask for beyond a token, against a full forward pass; and that nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from farthing.engine.api import Completion, Request, SamplingParams, TokenEvent
from farthing.engine.engine import Engine
from farthing.errors import EngineError
from farthing.models.decoder import Decoder, twin

Make = Callable[..., list[Request]]


class Only:
    """A constraint that allows one token at a time, from a list, then anything."""

    def __init__(self, *token_ids: int) -> None:
        self.left = list(token_ids)
        self.told: list[int] = []

    @property
    def shapes(self) -> bool:
        return bool(self.left)

    def shape(self, logits_V: Any) -> None:
        kept = logits_V[self.left[0]].clone()
        logits_V.fill_(float("-inf"))
        logits_V[self.left[0]] = kept

    def accept(self, token_id: int) -> None:
        self.told.append(token_id)
        if self.left:
            assert token_id == self.left.pop(0)


def events_of(engine: Engine, requests: list[Request]) -> dict[str, list[TokenEvent]]:
    """Every request's events, by its id."""
    found: dict[str, list[TokenEvent]] = {request.request_id: [] for request in requests}
    for request in requests:
        engine.add(request)
    while not engine.scheduler.is_idle:
        for event in engine.step():
            found[event.request_id].append(event)
    return found


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
def test_a_constraint_decides_and_is_told(model: Decoder, temperature: float) -> None:
    constraint = Only(9, 4, 31)
    params = SamplingParams(max_new_tokens=8, temperature=temperature)
    [done] = Engine(model).generate([Request((1, 2, 3), params, "a", constraint)])
    assert done.token_ids[:3] == [9, 4, 31]
    assert constraint.told == done.token_ids
    logprobs = torch.log_softmax(model(torch.tensor([[1, 2, 3, 9, 4]]))[0].float(), dim=-1)
    # The raw model's opinion of what it was made to say, and certainty where there was no choice.
    assert done.logprobs[0] == pytest.approx(logprobs[2, 9].item(), abs=1e-4)
    assert done.logprobs[2] == pytest.approx(logprobs[4, 31].item(), abs=1e-4)
    assert done.sampling_logprobs[:3] == pytest.approx([0.0, 0.0, 0.0], abs=1e-5)


@pytest.mark.parametrize(
    "settings", [{}, {"cache_tokens": 176}, {"prefill_tokens": 5, "keep_prefixes": True}]
)
def test_others_do_not_notice_and_preemption_does_not_disturb(
    model: Decoder, requests_of: Make, settings: dict[str, Any]
) -> None:
    plain = requests_of(12, seed=4)
    alone = Engine(model).generate(plain)
    script = [5, 6, 8, 9, 10, 11, 12]
    asked = [
        replace(request, constraint=Only(*script)) if index % 3 == 0 else request
        for index, request in enumerate(plain)
    ]
    engine = Engine(model, **settings)
    for index, (expected, found) in enumerate(zip(alone, engine.generate(asked), strict=True)):
        if index % 3 == 0:
            assert found.token_ids[: len(script)] == script[: len(found.token_ids)]
            constraint = asked[index].constraint
            assert isinstance(constraint, Only)
            assert constraint.told == found.token_ids
        else:
            assert found.token_ids == expected.token_ids
    engine.check_integrity()


def test_the_likeliest_tokens_are_those_of_the_raw_model(model: Decoder, requests_of: Make) -> None:
    requests = [
        replace(request, params=replace(request.params, top_logprobs=index % 4, temperature=0.5))
        for index, request in enumerate(requests_of(4, seed=9, new_tokens=(3, 12)))
    ]
    for request in requests:
        for position, event in enumerate(events := events_of(Engine(model), [request])[request.request_id]):
            said = [earlier.token_id for earlier in events[:position]]
            logits = model(torch.tensor([[*request.prompt_ids, *said]]))[0, -1]
            best = torch.log_softmax(logits.float(), dim=-1).topk(4)
            count = request.params.top_logprobs
            assert [token for token, _ in event.top] == best.indices.tolist()[:count]
            assert [value for _, value in event.top] == pytest.approx(best.values.tolist()[:count], abs=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"prefill_tokens": 5}, {"keep_prefixes": True, "prefill_tokens": 7}]
)
def test_prompts_are_scored_whole(model: Decoder, requests_of: Make, settings: dict[str, Any]) -> None:
    base = requests_of(6, seed=3, lengths=(1, 40), prefix=range(20, 40))
    requests = [*base[:3], *base]  # the same texts again: once cached, once side by side
    requests = [
        replace(
            request,
            request_id=str(index),
            params=replace(request.params, prompt_logprobs=True, top_logprobs=2),
        )
        for index, request in enumerate(requests)
    ]
    completions: list[Completion] = Engine(model, **settings).generate(requests)
    for request, done in zip(requests, completions, strict=True):
        ids = torch.tensor(request.prompt_ids)
        logprobs = torch.log_softmax(model(ids.unsqueeze(0))[0].float(), dim=-1)
        expected = logprobs[:-1].gather(-1, ids[1:].unsqueeze(-1)).squeeze(-1).tolist()
        assert list(done.prompt_logprobs) == pytest.approx(expected, abs=1e-4)
        best = logprobs[:-1].topk(2).values.flatten().tolist()
        assert [value for top in done.prompt_top for _, value in top] == pytest.approx(best, abs=1e-4)
        assert done.cached_tokens == 0


def test_finished_sequences_are_kept_up_to_a_bound(model: Decoder, requests_of: Make) -> None:
    engine = Engine(model, keep_prefixes=True, max_cold=2)
    engine.generate(requests_of(9, seed=5))
    assert len(engine.scheduler.cold) == 2
    engine.check_integrity()
    engine.generate(requests_of(1, seed=6))
    assert len(engine.seats.slot_of) == 2, "slots of dropped sequences are given back"


def embedding(*prompt: int) -> Request:
    return Request(prompt, SamplingParams(max_new_tokens=1, embed=True), f"embed-{len(prompt)}-{prompt[0]}")


def embed_requests(requests_of: Make) -> list[Request]:
    """Short ones, one of a whole chunk, one of several, and the same text twice."""
    lengths = [1, 2, 5, 11, 40, 64, 65, 150]
    prompts = [requests_of(1, seed=length, lengths=(length, length))[0].prompt_ids for length in lengths]
    return [embedding(*prompt) for prompt in [*prompts, prompts[3]]]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"prefill_tokens": 7},
    {"cache_tokens": 208},
    {"keep_prefixes": True, "max_running": 3},
]


@pytest.mark.parametrize("which", ["model", "latent_model"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_vector_is_the_mean_of_the_last_states(
    request: pytest.FixtureRequest, requests_of: Make, which: str, settings: dict[str, Any]
) -> None:
    model: Decoder = request.getfixturevalue(which)
    requests = embed_requests(requests_of)
    for asked, done in zip(requests, Engine(model, **settings).generate(requests), strict=True):
        with torch.no_grad():
            mean_C = model.hidden(torch.tensor([asked.prompt_ids]))[0].mean(0)
        expected = mean_C / mean_C.norm()
        assert torch.tensor(done.embedding) == pytest.approx(expected, abs=1e-5)
        assert (len(done.token_ids), done.finish_reason, done.cached_tokens) == (1, "length", 0)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_vector_is_the_same_to_the_bit_whatever_else_is_computed(
    model: Decoder, requests_of: Make, settings: dict[str, Any], dtype: torch.dtype | None
) -> None:
    def fresh(**settings: Any) -> Engine:
        engine = Engine(twin(model), **settings)
        engine.publish(0, dtype)
        return engine

    requests = embed_requests(requests_of)
    alone = [fresh().generate([request])[0].embedding for request in requests]
    others = requests_of(9, seed=2, lengths=(1, 70))
    engine = fresh(**settings)
    mixed: list[Request] = []
    for place, request in enumerate(requests):
        # Also beside somebody who writes on from the same text.
        mixed += [others[place], Request(request.prompt_ids, others[place].params, f"on-{place}"), request]
    found = engine.generate(mixed)
    assert [done.embedding for done in found[2::3]] == alone
    assert not any(done.embedding for done in found[0::3])
    engine.check_integrity()


def test_a_vector_leaves_nothing_behind_and_needs_no_room_to_write(model: Decoder) -> None:
    engine = Engine(model, keep_prefixes=True, cache_tokens=64)
    engine.generate([embedding(*range(60), 1, 2, 3, 4)])
    assert (len(engine.scheduler.cold), engine.scheduler.pool.num_free, engine.seats.slot_of) == (
        0,
        4,
        {},
    )
    with pytest.raises(EngineError, match="needs 65 tokens"):
        engine.add(embedding(*range(60), 1, 2, 3, 4, 5))
    with pytest.raises(ValueError, match="max_new_tokens must be 1"):
        SamplingParams(max_new_tokens=2, embed=True)


def test_a_vector_that_nobody_waits_for_is_given_up_between_two_chunks(model: Decoder) -> None:
    engine = Engine(model, keep_prefixes=True)
    engine.add(embedding(*range(60), *range(60)))
    assert engine.step() == []
    assert engine.abort("embed-120-0") is not None
    assert engine.scheduler.is_idle
    assert engine.seats.slot_of == {}
    engine.check_integrity()
