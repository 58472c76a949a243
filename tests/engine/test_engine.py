"""What callers are promised: stop tokens, limits, aborts at any moment, new weights, prefixes kept between turns,
refusals."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from farthing.engine import slots
from farthing.engine.api import Completion, Request, SamplingParams
from farthing.engine.engine import Engine
from farthing.errors import EngineError
from farthing.models.decoder import Decoder, initialise

Make = Callable[..., list[Request]]


def by_hand(model: Decoder, prompt: tuple[int, ...], count: int) -> list[int]:
    """The greedy continuation, for choosing stop tokens that will come up."""
    params = SamplingParams(max_new_tokens=count, temperature=0.0)
    return Engine(model).generate([Request(prompt, params)])[0].token_ids


def test_the_first_stop_token_ends_and_belongs_to_the_completion(model: Decoder) -> None:
    whole = by_hand(model, (1, 2, 3), 20)
    for stop in (whole[0], whole[7]):
        end = whole.index(stop) + 1
        params = SamplingParams(max_new_tokens=20, temperature=0.0, stop_token_ids=(stop, 60))
        completion = Engine(model).generate([Request((1, 2, 3), params, "a")])[0]
        assert completion.token_ids == whole[:end]
        assert completion.finish_reason == "stop"
        assert len(completion.logprobs) == len(completion.sampling_logprobs) == end


def test_the_limit_ends_and_a_stop_token_on_the_last_place_is_a_stop(model: Decoder) -> None:
    whole = by_hand(model, (1, 2, 3), 6)
    plain = SamplingParams(max_new_tokens=6, temperature=0.0)
    ends_there = replace(plain, max_new_tokens=whole.index(whole[5]) + 1, stop_token_ids=(whole[5],))
    first, second = Engine(model).generate([Request((1, 2, 3), plain), Request((1, 2, 3), ends_there)])
    assert (first.finish_reason, first.token_ids) == ("length", whole)
    assert (second.finish_reason, second.token_ids) == ("stop", whole[: whole.index(whole[5]) + 1])


def test_requests_with_and_without_stop_tokens_side_by_side(model: Decoder) -> None:
    """Rows know their own stop tokens, however many each has, also when rows change places."""
    whole = by_hand(model, (9,), 40)
    cuts = [(), (whole[2],), (whole[9], whole[30], 59, 58, 57), (whole[-1],)]
    requests = [
        Request((9,), SamplingParams(max_new_tokens=40, temperature=0.0, stop_token_ids=stops))
        for stops in cuts
    ]
    for stops, completion in zip(cuts, Engine(model).generate(requests), strict=True):
        ends = [whole.index(stop) + 1 for stop in stops if stop in whole]
        assert completion.token_ids == whole[: min(ends, default=40)]


@dataclass
class OnlyEnd:
    """As much of a tokenizer as an engine looks at."""

    eos_id: int | None


def test_the_tokenizer_supplies_the_stop_token_that_a_request_does_not_name(model: Decoder) -> None:
    whole = by_hand(model, (1, 2, 3), 20)
    stop, other = whole[4], next(token for token in whole[5:] if token not in whole[:5])
    plain = SamplingParams(max_new_tokens=20, temperature=0.0)
    engine = Engine(model, OnlyEnd(stop))
    named, unnamed = engine.generate(
        [Request((1, 2, 3), replace(plain, stop_token_ids=(other,))), Request((1, 2, 3), plain)]
    )
    assert unnamed.token_ids == whole[: whole.index(stop) + 1]
    assert named.token_ids == whole[: whole.index(other) + 1]
    assert Engine(model, OnlyEnd(None)).generate([Request((1, 2, 3), plain)])[0].token_ids == whole


PRESSURES = {
    "roomy": {},
    "narrow": {"max_running": 3, "prefill_tokens": 6},
    "preempting": {"cache_tokens": 144, "prefill_tokens": 16},
    "keeping": {"cache_tokens": 224, "keep_prefixes": True, "prefill_tokens": 16},
}


@pytest.mark.parametrize("settings", PRESSURES.values(), ids=PRESSURES)
def test_aborts_at_any_moment_leave_nothing_behind(
    settings: dict[str, int], model: Decoder, requests_of: Make
) -> None:
    """Waiting, in prefill, decoding, sent back to wait, already done: whoever stays is not disturbed."""
    rng = random.Random(8)
    requests = requests_of(24, seed=8, lengths=(1, 40), new_tokens=(2, 30))
    expected = {c.request_id: c for c in Engine(model).generate(requests)}
    engine, found = Engine(model, **settings), {}  # type: ignore[arg-type]
    queue = list(requests)
    while queue or not engine.scheduler.is_idle:
        for request in queue[: rng.randrange(4)]:
            engine.add(queue.pop(queue.index(request)))
        for event in engine.step():
            if event.completion is not None:
                found[event.request_id] = event.completion
        if rng.random() < 0.6:
            victim = str(rng.randrange(len(requests)))
            completion = engine.abort(victim)
            if completion is not None:
                assert completion.finish_reason == "aborted"
                assert victim not in found
                found[victim] = completion
        engine.check_integrity()
        assert len(engine.seats.slot_of) == sum(seat is not None for seat in engine.seats.seated)
    aborted = [one for one in found.values() if one.finish_reason == "aborted"]
    assert 3 <= len(aborted) < 20
    for name, completion in found.items():
        length = len(completion.token_ids)
        assert completion.token_ids == expected[name].token_ids[:length]
        assert len(completion.logprobs) == len(completion.sampling_logprobs) == length
        if completion.finish_reason != "aborted":
            assert completion.token_ids == expected[name].token_ids
    leave_nothing(engine)


def leave_nothing(engine: Engine) -> None:
    """Once donors are dropped, every block and every slot is free."""
    engine.publish(1)
    engine.check_integrity()
    assert engine.scheduler.pool.num_free == engine.scheduler.pool.num_blocks
    assert not engine.seats.slot_of and not any(engine.seats.seated)


def test_aborting_what_is_not_here_is_nothing(model: Decoder) -> None:
    engine = Engine(model)
    assert engine.abort("nobody") is None
    engine.generate([Request((1, 2), SamplingParams(max_new_tokens=2), "done")])
    assert engine.abort("done") is None


def test_completions_name_the_weights_they_were_drawn_from(model: Decoder) -> None:
    changing = initialise(Decoder(model.config), 5)
    engine = Engine(changing)
    request = Request((1, 2, 3), SamplingParams(max_new_tokens=12, temperature=0.0))
    first = engine.generate([request])[0]
    with torch.no_grad():
        for parameter in changing.parameters():
            parameter.mul_(1.5)
    engine.publish(7)
    second = engine.generate([request])[0]
    assert (first.policy_version, second.policy_version) == (0, 7)
    assert second.token_ids == Engine(changing).generate([request])[0].token_ids != first.token_ids


def test_new_weights_forget_every_prefix(model: Decoder) -> None:
    """Those of finished sequences, and those of sequences that are still being written with the old weights."""
    changing = initialise(Decoder(model.config), 5)
    engine = Engine(changing, keep_prefixes=True)
    prompt = tuple(range(40))
    engine.generate([Request(prompt, SamplingParams(max_new_tokens=8))])
    engine.add(Request(prompt, SamplingParams(max_new_tokens=60), "goes on"))
    engine.step()
    with torch.no_grad():
        for parameter in changing.parameters():
            parameter.mul_(1.3)
    engine.publish(1)
    late = Request(prompt, SamplingParams(max_new_tokens=8, seed=3), "late")
    engine.add(late)
    found: list[Completion] = []
    while not engine.scheduler.is_idle:
        found += [event.completion for event in engine.step() if event.completion is not None]
    completion = next(one for one in found if one.request_id == "late")
    assert completion.cached_tokens == 0
    fresh = Engine(changing).generate([late])[0]
    assert completion.token_ids == fresh.token_ids
    torch.testing.assert_close(completion.logprobs, fresh.logprobs, atol=1e-5, rtol=0)


def test_weights_may_be_published_in_another_dtype(model: Decoder) -> None:
    """An engine made before the compute view is: its cache follows the view."""
    changing = initialise(Decoder(model.config), 5)
    engine = Engine(changing)
    request = Request((1, 2, 3), SamplingParams(max_new_tokens=12, temperature=0.0))
    exact = engine.generate([request])[0]
    engine.publish(1, torch.bfloat16)
    coarse = engine.generate([request])[0]
    assert coarse.logprobs != exact.logprobs
    assert max(abs(a - b) for a, b in zip(coarse.logprobs[:1], exact.logprobs[:1], strict=True)) < 0.2
    engine.publish(2, None)
    assert engine.generate([request])[0].logprobs == exact.logprobs


def talk(model: Decoder, engine: Engine, turns: int) -> list[Completion]:
    """A conversation: every prompt is the one before with its completion and some more."""
    prompt: tuple[int, ...] = tuple(range(20))
    spoken = []
    for turn in range(turns):
        request = Request(prompt, SamplingParams(max_new_tokens=15, seed=turn), str(turn))
        spoken.append(engine.generate([request])[0])
        prompt = (*prompt, *spoken[-1].token_ids, 50 + turn, 51)
    return spoken


def test_turns_of_a_conversation_share_their_prefix(model: Decoder) -> None:
    """Prompt and reply of one turn are not computed again in the next; the tokens are those of a fresh engine."""
    kept = talk(model, Engine(model, keep_prefixes=True, prefill_tokens=8), 5)
    fresh = talk(model, Engine(model), 5)
    assert [c.token_ids for c in kept] == [c.token_ids for c in fresh]
    assert [c.cached_tokens for c in fresh] == [0] * 5
    lengths = [20 + 17 * turn for turn in range(5)]
    # All but what is new: the last token of a reply, which has left no keys, and the two behind it.
    assert [c.cached_tokens for c in kept] == [0, *(length - 3 for length in lengths[1:])]


def test_of_a_last_block_what_two_have_in_common_is_shared(model: Decoder) -> None:
    """Only where it is the last of both: what stands in one's middle was computed otherwise."""
    engine = Engine(model, keep_prefixes=True)
    ask = SamplingParams(max_new_tokens=1)

    def cached(*prompt: int) -> int:
        return engine.generate([Request(prompt, ask)])[0].cached_tokens

    assert cached(*range(40)) == 0
    assert cached(*range(40)) == 39, "one is left, to draw from"
    assert cached(*range(36), 7, 7, 7) == 36
    assert cached(*range(36), 9) == 36
    assert cached(*range(40), *range(20)) == 32, "longer"
    assert cached(*range(26)) == 16, "shorter"


def test_kept_prefixes_give_way_when_room_is_needed(model: Decoder, requests_of: Make) -> None:
    """A cache for hardly two: conversations and strangers in turn, and every one is answered as by a fresh engine."""
    engine = Engine(model, keep_prefixes=True, cache_tokens=160, prefill_tokens=16)
    for seed in range(6):
        for request in requests_of(4, seed=seed, prefix=range(30), lengths=(1, 60), new_tokens=(1, 40)):
            expected = Engine(model).generate([request])[0]
            assert engine.generate([request])[0].token_ids == expected.token_ids
            engine.check_integrity()
    leave_nothing(engine)


def test_a_copied_prefix_survives_others_changing_places(model: Decoder) -> None:
    """A long copied prefix waits for its turn in prefill while a shorter sequence takes its slot to decode."""
    engine = Engine(model, keep_prefixes=True, prefill_tokens=8)
    long = tuple(range(48))
    engine.generate([Request(long, SamplingParams(max_new_tokens=2, seed=1))])
    late = Request((*long, 5, 6, 7, 8, 9), SamplingParams(max_new_tokens=10, temperature=0.0), "late")
    engine.add(Request((3, 1, 4, 1, 5, 9, 2, 6), SamplingParams(max_new_tokens=30, seed=2), "first"))
    engine.add(late)
    found: dict[str, Completion] = {}
    while not engine.scheduler.is_idle:
        found |= {e.request_id: e.completion for e in engine.step() if e.completion is not None}
    assert found["late"].cached_tokens == 48
    fresh = Engine(model).generate([late])[0]
    assert found["late"].token_ids == fresh.token_ids
    torch.testing.assert_close(found["late"].logprobs, fresh.logprobs, atol=1e-4, rtol=0)


def test_cached_tokens_never_exceed_the_prompt(model: Decoder) -> None:
    """Two equal requests in a narrow cache: the one that is sent back finds its own text done by the other."""
    params = SamplingParams(max_new_tokens=60, seed=4)
    engine = Engine(model, cache_tokens=128, keep_prefixes=True)
    requests = [Request(tuple(range(10)), params, str(index)) for index in range(3)]
    for completion in engine.generate(requests):
        assert completion.cached_tokens <= 10
        assert len(completion.token_ids) == 60


BAD = {
    "no tokens": (Request(()), "'': the prompt is empty"),
    "a token beyond the vocabulary": (Request((1, 61), request_id="x"), "'x': token 61"),
    "a token below it": (Request((-1, 3), request_id="x"), "'x': token -1"),
    "more than the cache": (Request((1,) * 300, SamplingParams(max_new_tokens=300), "x"), "600 tokens"),
}


@pytest.mark.parametrize(("request_", "complaint"), BAD.values(), ids=BAD)
def test_what_cannot_be_done_is_refused_and_hurts_nobody(
    request_: Request, complaint: str, model: Decoder
) -> None:
    engine = Engine(model, cache_tokens=512)
    engine.add(Request((1, 2), SamplingParams(max_new_tokens=3), "good"))
    with pytest.raises(EngineError, match=complaint):
        engine.add(request_)
    events = []
    while not engine.scheduler.is_idle:
        events += engine.step()
    assert len(events) == 3


@pytest.mark.parametrize(
    "settings",
    [{"max_new_tokens": 0}, {"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}],
)
def test_sampling_settings_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SamplingParams(**settings)  # type: ignore[arg-type]


def test_a_stream_that_is_given_up_leaves_the_engine(model: Decoder) -> None:
    engine = Engine(model)
    stream = engine.stream(Request((1, 2, 3), SamplingParams(max_new_tokens=40), "left"))
    assert [next(stream).request_id for _ in range(3)] == ["left"] * 3
    stream.close()  # type: ignore[attr-defined]
    assert engine.scheduler.is_idle
    leave_nothing(engine)


def test_no_requests_no_completions(model: Decoder) -> None:
    assert Engine(model).generate([]) == []


@pytest.mark.parametrize("is_refused", [False, True])
def test_room_is_made_once_for_all_that_wait(
    model: Decoder, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """Or, where the system does not grant so much at once, as it is needed; the completions are the same."""
    requests = [
        Request((1 + n, 2, 3), SamplingParams(max_new_tokens=70 + n, seed=n), f"{n}") for n in range(40)
    ]
    alone = [Engine(model).generate([one])[0].token_ids for one in requests]
    make, shapes = slots._room, []

    def noted(store: torch.Tensor, num_slots: int, num_tokens: int) -> torch.Tensor:
        shapes.append((num_slots, num_tokens))
        if is_refused and len(shapes) == 1:
            raise OSError("not enough memory")
        return make(store, num_slots, num_tokens)

    monkeypatch.setattr(slots, "_room", noted)
    engine = Engine(model)
    assert [one.token_ids for one in engine.generate(requests)] == alone
    assert len(engine.seats.columns.length) <= 64, "longer and longer ones are no more of them"
    with torch.no_grad():
        is_read_exactly = engine.seats.slots.are_read_exactly
    if is_read_exactly:
        assert shapes[0] == (64, 128), "40 slots and the padding of a batch; 112 tokens, in whole buckets"
        assert len(set(shapes)) == 1 or is_refused


def test_one_long_sequence_keeps_no_room_for_those_that_have_ended(model: Decoder) -> None:
    """Short ones end, a long one that nobody expected goes on past the room there was, others come late: all get what
    they get alone, and there is room for those that are here."""

    def request(name: str, limit: int) -> Request:
        prompt = (1 + len(name), 2, sum(map(ord, name)) % 61)
        return Request(prompt, SamplingParams(max_new_tokens=limit, seed=limit), name)

    early = [request(f"early {n}", 4 + n % 3) for n in range(40)]
    long, late = request("long", 120), [request(f"late {n}", 6) for n in range(20)]
    engine = Engine(model, max_running=64)
    for one in early:
        engine.add(one)
    drawn: dict[str, list[int]] = {}
    for step in range(200):
        if step == 1:
            engine.add(long)
        if step == 100:
            assert engine.seats.slots.num_slots <= 32, "room of those that have ended was let go"
            for one in late:
                engine.add(one)
        for event in engine.step():
            drawn.setdefault(event.request_id, []).append(event.token_id)
    engine.check_integrity()
    for one in (*early, long, *late):
        assert drawn[one.request_id] == Engine(model).generate([one])[0].token_ids
