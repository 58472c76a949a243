"""The engine with the whole step compiled: a completion is the same alone and in any company, to the last bit, whether
its prompt was cached or not, groups that read one beginning included, and near to what the plain operations write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.engine.api import Completion, Request, SamplingParams
from farthing.engine.engine import Engine
from farthing.models.decoder import Decoder, initialise
from farthing.models.int8 import quantise
from farthing.models.step import Alike
from tests.engine.conftest import tiny_config

COMPANIES = {"batched": {}, "three at a time": {"max_running": 3}}
# A text that is read in other pieces, or once more, is rounded otherwise by the plain operations that read it.
PIECES = {
    "preempted": {"cache_tokens": 512},
    "chunked": {"prefill_tokens": 24},
    "cold prefixes": {"keep_prefixes": True, "cache_tokens": 1024},
}


@pytest.fixture(scope="module", params=["bfloat16", "8 bits"])
def published(request: pytest.FixtureRequest) -> Decoder:
    model = initialise(Decoder(tiny_config(initializer_range=0.2)), 5)
    if request.param == "8 bits":
        quantise(model)
    model.publish(torch.bfloat16)
    if model.step is None:
        pytest.skip(
            "no C++ compiler, FARTHING_FUSED=0, or a processor without dot products of bfloat16 pairs"
        )
    return model


def groups() -> list[Request]:
    """Five prompts, four samples of each that end at different times; two prompts begin alike."""
    prompts = [
        tuple(range(2, 42)),
        tuple(range(2, 30)),
        tuple(range(60, 25, -1)),
        (7, 8, 9),
        tuple(range(5, 58)),
    ]
    return [
        Request(
            prompt,
            SamplingParams(max_new_tokens=6 + 9 * sample, seed=10 * group + sample),
            f"{group} {sample}",
        )
        for group, prompt in enumerate(prompts)
        for sample in range(4)
    ]


def written(model: Decoder, requests: list[Request], **settings: int) -> list[Completion]:
    engine = Engine(model, cache_dtype=torch.bfloat16, **settings)  # type: ignore[arg-type]
    found = engine.generate(requests)
    engine.check_integrity()
    return found


@pytest.mark.parametrize("settings", COMPANIES.values(), ids=COMPANIES)
def test_company_changes_no_bit(published: Decoder, settings: dict[str, int]) -> None:
    together = written(published, groups(), **settings)
    for request, one in zip(groups(), together, strict=True):
        alone = written(published, [request])[0]
        assert (alone.token_ids, alone.logprobs) == (one.token_ids, one.logprobs), request.request_id


def test_a_prompt_that_is_cached_needs_no_pass_of_its_own_and_changes_no_bit(
    published: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last block goes into the decoding step, whoever else decodes, as it did when nothing was cached."""
    engine = Engine(published, cache_dtype=torch.bfloat16, keep_prefixes=True)
    requests = [replace(request, request_id="") for request in groups() if len(request.prompt_ids) > 16]
    fresh = engine.generate(requests)
    passes: list[int] = []
    hidden = published.hidden
    monkeypatch.setattr(published, "hidden", lambda *asked: passes.append(1) or hidden(*asked))
    together = engine.generate(requests)
    alone = [engine.generate([request])[0] for request in requests]
    assert not passes
    engine.check_integrity()
    for first, second, third in zip(fresh, together, alone, strict=True):
        assert first.cached_tokens < second.cached_tokens <= third.cached_tokens
        assert (first.token_ids, first.logprobs) == (second.token_ids, second.logprobs)
        assert (first.token_ids, first.logprobs) == (third.token_ids, third.logprobs)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 32, 33])
def test_rests_of_every_length(published: Decoder, length: int) -> None:
    """Drawn with wishes of its own, the first token too."""
    prompt = tuple(range(3, 3 + length))
    params = SamplingParams(max_new_tokens=3, temperature=0.7, top_k=5, seed=length)
    company = [Request(prompt, replace(params, seed=seed), str(seed)) for seed in range(3)]
    together = written(published, [*groups(), Request(prompt, params, "own"), *company])[len(groups()) :]
    assert len({one.request_id for one in together}) == 4
    alone = written(published, [Request(prompt, params, "own")])[0]
    assert (alone.token_ids, alone.logprobs) == (together[0].token_ids, together[0].logprobs)
    greedy = written(published, [Request(prompt, replace(params, temperature=0.0), "")])[0]
    with torch.no_grad():
        expected = published(torch.tensor([prompt]))[0, -1].float().log_softmax(-1)
    assert greedy.logprobs[0] == pytest.approx(float(expected.max()), abs=0.1)


def test_a_neighbour_with_wishes_changes_no_token(published: Decoder) -> None:
    """Beside somebody who draws from another distribution, everybody is drawn outside the step."""
    other = Request((3, 4, 5), SamplingParams(max_new_tokens=40, temperature=0.5, top_k=5, seed=1), "other")
    for one, beside in zip(
        written(published, groups()), written(published, [*groups(), other]), strict=False
    ):
        assert one.token_ids == beside.token_ids
        assert one.logprobs == pytest.approx(beside.logprobs, abs=1e-5)


def test_a_group_reads_one_beginning(published: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the step is told: who reads whose, and how much; to the end, when others have left and rows have moved."""
    told: list[Alike] = []
    make: Callable[..., Alike] = Alike.of
    monkeypatch.setattr(Alike, "of", lambda *columns: told.append(make(*map(np.copy, columns))) or told[-1])
    requests = [request for request in groups() if request.request_id[0] in "02"]
    written(published, [*requests, replace(requests[0], prompt_ids=(1, *requests[0].prompt_ids))])
    assert len(told[0].order) == 8 + 3 + 9, "the last tokens of three prompts, read before anybody decodes"
    assert sorted(told[1].shared.tolist()) == [0, 0, 0, *[32] * 6], (
        "one of each group has it, and who is alone"
    )
    assert len(set(told[1].donors.tolist())) == 3
    for alike in told:
        assert (alike.donors[alike.order] == sorted(alike.donors)).all(), "one group after the other"
    assert len(told[-1].order) == 2, "the longest of each group are left, and have it all themselves"
    assert told[-1].donors.tolist() == [0, 1] and told[-1].shared.tolist() == [0, 0]


def test_who_comes_later_reads_the_beginning_of_those_before(
    published: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that still writes, then of one that has ended and was kept; to the last bit what they write alone."""
    told: list[Alike] = []
    make: Callable[..., Alike] = Alike.of
    monkeypatch.setattr(Alike, "of", lambda *columns: told.append(make(*map(np.copy, columns))) or told[-1])
    system = tuple(range(2, 42))
    first, second, third, fourth, other = (
        Request((*system, 50 + seed, 51), SamplingParams(max_new_tokens=20, seed=seed), str(seed))
        for seed in range(5)
    )
    other = replace(other, prompt_ids=(1, *other.prompt_ids))
    partly = replace(fourth, prompt_ids=(*system[:20], *range(60, 30, -1)), request_id="partly")
    engine = Engine(published, cache_dtype=torch.bfloat16, keep_prefixes=True, max_cold=1)
    found: dict[str, Completion] = {}

    def write(*requests: Request, until: int) -> None:
        for request in requests:
            engine.add(request)
        while len(found) < until and not engine.scheduler.is_idle:
            found.update({e.request_id: e.completion for e in engine.step() if e.completion is not None})

    engine.add(first)
    for _ in range(5):
        assert not any(event.completion for event in engine.step())
    write(second, other, until=3)
    assert any(sorted(alike.shared.tolist()) == [0, 0, 32] for alike in told), "one of another"
    told.clear()
    write(third, fourth, partly, until=6)
    assert any(sorted(alike.shared.tolist()) == [0, 0, 32] for alike in told), "half a beginning is none"
    engine.check_integrity()
    for request in (first, second, third, fourth, other, partly):
        alone = written(published, [request])[0]
        assert alone.token_ids == found[request.request_id].token_ids
        assert alone.logprobs == pytest.approx(found[request.request_id].logprobs, abs=0.05)


@pytest.mark.parametrize("published", ["bfloat16"], indirect=True)
@pytest.mark.parametrize("settings", (COMPANIES | PIECES).values(), ids=COMPANIES | PIECES)
def test_it_writes_what_the_plain_operations_write(published: Decoder, settings: dict[str, int]) -> None:
    """Log-probabilities of the tokens it drew, by a whole forward pass in bfloat16. In 8 bits, where what rounds
    otherwise in attention is rounded once more, the step itself is held to the last bit (tests/models/test_step.py)."""
    for request, one in zip(groups(), written(published, groups(), **settings), strict=True):
        ids = torch.tensor([[*request.prompt_ids, *one.token_ids]])
        with torch.no_grad():
            logits = published(ids)[0, len(request.prompt_ids) - 1 : -1].float()
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(one.token_ids).unsqueeze(-1)).squeeze(-1)
        difference = (torch.tensor(one.logprobs) - expected).abs()
        assert difference.mean() < 0.02 and difference.max() < 0.15


@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_beginnings_outlive_those_who_hold_them(published: Decoder, data: st.DataObject) -> None:
    """Whoever leaves in whatever order, by ending, by an abort or for want of blocks: to the last bit what is written
    where everybody has a copy."""
    texts = [tuple(range(first, first + length)) for first, length in ((2, 33), (2, 48), (9, 40), (5, 17))]
    numbers = st.tuples(st.sampled_from(texts), st.integers(1, 30), st.integers(0, 8))
    requests = [
        Request((*text[: 48 - cut], 60 - cut), SamplingParams(max_new_tokens=limit, seed=n), str(n))
        for n, (text, limit, cut) in enumerate(data.draw(st.lists(numbers, min_size=4, max_size=12)))
    ]
    later = data.draw(st.integers(0, len(requests) - 1))
    gone = data.draw(st.sets(st.integers(0, len(requests) - 1), max_size=4))
    asked = {
        "cache_tokens": data.draw(st.sampled_from([160, 320, 4096])),
        "keep_prefixes": data.draw(st.booleans()),
        "prefill_tokens": data.draw(st.sampled_from([24, 4096])),
        "max_cold": 2,
    }

    def all_written(is_copied: bool) -> dict[str, tuple[list[int], list[float]]]:
        engine, found = Engine(published, cache_dtype=torch.bfloat16, **asked), {}
        for step in range(200):
            for request in requests[later:] if step == 0 else requests[:later] if step == 3 else ():
                engine.add(request)
            for index in gone if step == 7 else ():
                engine.abort(str(index))
            found.update({e.request_id: e.completion for e in engine.step() if e.completion is not None})
            engine.check_integrity()
            if is_copied:
                engine.seats.own(range(len(engine.seats.seated)))
        assert engine.scheduler.is_idle and len(found) >= len(requests) - len(gone)
        return {name: (one.token_ids, one.logprobs) for name, one in found.items()}

    assert all_written(False) == all_written(True)


def test_a_beginning_is_there_once(published: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """And copied for who goes on without the step, where every row reads its own place."""
    engine = Engine(published, cache_dtype=torch.bfloat16)
    for request in groups():
        engine.add(request)
    for _ in range(4):
        engine.step()
    seats = engine.seats
    group = [seats.slot_of[sequence] for sequence in seats.slot_of if sequence.request.request_id[0] == "0"]
    (holder,) = set(seats.columns.holder[group].tolist())
    for slot in set(group) - {holder}:
        seats.slots.keys[:, slot, :, :32] = seats.slots.values[:, slot, :, :32] = float("nan")
    monkeypatch.setattr(published, "step", None)
    engine.step()
    assert (seats.columns.holder == np.arange(len(seats.columns.holder))).all()
    assert not seats.slots.keys[:, group, :, :32].isnan().any()


def test_who_takes_over_a_beginning_has_as_much_of_it_as_anybody_reads(published: Decoder) -> None:
    text = tuple(range(2, 50))
    first, *others = (
        Request((*text[:end], 60), SamplingParams(max_new_tokens=limit, seed=end), str(end))
        for end, limit in ((48, 6), (20, 20), (40, 20))
    )
    drawn: list[dict[str, list[int]]] = []
    for is_copied in (False, True):
        engine, own = Engine(published, cache_dtype=torch.bfloat16), dict[str, list[int]]()
        engine.add(first)
        for step in range(25):
            for request in others if step == 3 else ():
                engine.add(request)
            for event in engine.step():
                own.setdefault(event.request_id, []).append(event.token_id)
            if is_copied:
                engine.seats.own(range(len(engine.seats.seated)))
            elif step == 4:
                assert engine.seats.columns.shared[:3].tolist() == [0, 16, 32]
        drawn.append(own)
    assert drawn[0] == drawn[1] and [len(own) for own in drawn[0].values()] == [6, 20, 20]
