"""What requests ask for beyond a token, against a full forward pass; and that nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from farthing.engine.api import Completion, Request, SamplingParams, TokenEvent
from farthing.engine.engine import Engine
from farthing.models.decoder import Decoder

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
    assert len(engine.runner.slot_of) == 2, "slots of dropped sequences are given back"
