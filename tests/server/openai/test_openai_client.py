"""What the official client makes of us, streamed and not, against a real tiny model."""

from __future__ import annotations

from typing import Any

import openai
import pytest

USER = [{"role": "user", "content": "3, 5 and 8 to make 24"}]


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="tiny", messages=USER, **more)  # type: ignore[call-overload]


def joined(stream: Any) -> list[dict[str, Any]]:
    """What a client that adds deltas up ends with, one for each choice."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in stream:
        for choice in chunk.choices:
            whole = choices.setdefault(choice.index, {"finish": [], "logprobs": []})
            for name, value in choice.delta.model_dump(exclude_unset=True).items():
                whole[name] = whole.get(name, "") + (value or "")
            if choice.logprobs is not None:
                whole["logprobs"] += choice.logprobs.content or []
            if choice.finish_reason is not None:
                whole["finish"].append(choice.finish_reason)
    return [choices[index] for index in sorted(choices)]


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    model, caller = client.models.list().data
    assert (model.id, caller.id) == ("tiny", "caller")
    assert client.models.retrieve("tiny").model_extra == model.model_extra
    assert (model.model_extra or {})["max_model_len"] == 512


@pytest.mark.parametrize("settings", [{}, {"temperature": 0}, {"temperature": 0.8, "top_p": 0.9}, {"n": 3}])
def test_a_stream_says_what_a_whole_reply_says(client: openai.OpenAI, settings: dict[str, Any]) -> None:
    whole = ask(client, seed=7, max_tokens=40, **settings)
    parts = joined(ask(client, seed=7, max_tokens=40, stream=True, **settings))
    assert len(parts) == len(whole.choices) == settings.get("n", 1)
    for part, choice in zip(parts, whole.choices, strict=True):
        assert part["role"] == "assistant"
        assert part["content"] == choice.message.content
        assert part.get("reasoning", "") == (choice.message.model_extra or {}).get("reasoning", "")
        assert part["finish"] == [choice.finish_reason]


def test_a_seed_is_a_promise_and_no_seed_is_chance(client: openai.OpenAI) -> None:
    def said(**more: Any) -> str:
        return str(ask(client, max_tokens=30, temperature=1, **more).choices[0].message)

    assert said(seed=3) == said(seed=3)
    assert said(seed=3) != said(seed=4)
    assert said() != said()


def test_usage_counts_and_comes_last(client: openai.OpenAI) -> None:
    whole = ask(client, seed=1, max_tokens=20)
    assert whole.usage.completion_tokens <= 20
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(ask(client, seed=1, max_tokens=20, stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    last = chunks[-1].usage.model_dump(exclude={"prompt_tokens_details"})
    assert last == whole.usage.model_dump(exclude={"prompt_tokens_details"})
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in ask(client, seed=1, max_tokens=5, stream=True))


def test_a_second_turn_finds_the_first_in_the_cache(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "a long beginning, " * 12}]
    first = client.chat.completions.create(model="tiny", messages=messages, max_tokens=4, seed=1)
    again = client.chat.completions.create(model="tiny", messages=messages, max_tokens=4, seed=1)
    assert first.usage and again.usage and again.usage.prompt_tokens_details
    cached = again.usage.prompt_tokens_details.cached_tokens or 0
    assert again.usage.prompt_tokens - 16 <= cached < again.usage.prompt_tokens
    assert again.choices[0].message == first.choices[0].message


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_describe_the_content_token_by_token(client: openai.OpenAI, stream: bool) -> None:
    settings: dict[str, Any] = {"seed": 5, "max_tokens": 30, "logprobs": True, "top_logprobs": 3}
    if stream:
        [choice] = joined(ask(client, stream=True, **settings))
        content, entries = choice["content"], choice["logprobs"]
    else:
        [choice] = ask(client, **settings).choices
        content, entries = choice.message.content, choice.logprobs.content
    spelled = b"".join(bytes(entry.bytes) for entry in entries).decode("utf-8", "replace")
    assert spelled.strip() == content.strip()
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob <= entry.top_logprobs[0].logprob + 1e-6 <= 1e-6


def test_stop_strings_end_the_content_and_are_not_in_it(client: openai.OpenAI) -> None:
    free = (
        ask(client, seed=11, max_tokens=60, extra_body={"enable_thinking": False}).choices[0].message.content
    )
    stop = free[len(free) // 2 : len(free) // 2 + 3]
    cut = ask(
        client, seed=11, max_tokens=60, stop=[stop, "never said"], extra_body={"enable_thinking": False}
    )
    assert cut.choices[0].message.content == free[: free.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    [part] = joined(
        ask(client, seed=11, max_tokens=60, stop=stop, stream=True, extra_body={"enable_thinking": False})
    )
    assert part["content"] == free[: free.index(stop)]
    assert part["finish"] == ["stop"]


@pytest.mark.parametrize(
    ("settings", "error", "code"),
    [
        ({"model": "absent"}, openai.NotFoundError, "model_not_found"),
        ({"max_tokens": 0}, openai.BadRequestError, "invalid_value"),
        ({"max_tokens": 100_000}, openai.BadRequestError, "context_length_exceeded"),
        ({"n": 17}, openai.BadRequestError, "invalid_value"),
        ({"temperature": 2.5}, openai.BadRequestError, "invalid_value"),
        ({"logit_bias": {"999999": 1}}, openai.BadRequestError, "invalid_value"),
        ({"logit_bias": {"5": 101}}, openai.BadRequestError, "invalid_value"),
        ({"top_logprobs": 2}, openai.BadRequestError, "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, openai.BadRequestError, "invalid_value"),
        ({"stop": ""}, openai.BadRequestError, "invalid_value"),
        ({"messages": []}, openai.BadRequestError, "invalid_value"),
        ({"audio": {"voice": "x", "format": "wav"}}, openai.BadRequestError, "unsupported_parameter"),
    ],
)
def test_errors_arrive_as_the_clients_own(
    client: openai.OpenAI, settings: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(**({"model": "tiny", "messages": USER} | settings))
    assert caught.value.code == code
    assert caught.value.request_id


def test_biases_and_penalties_are_obeyed(client: openai.OpenAI) -> None:
    wanted = 20
    said = ask(
        client,
        seed=2,
        max_tokens=8,
        logit_bias={str(wanted): 100},
        logprobs=True,
        extra_body={"enable_thinking": False},
    )
    assert len({entry.token for entry in said.choices[0].logprobs.content}) == 1
    tired = ask(
        client,
        seed=2,
        max_tokens=8,
        temperature=0,
        logit_bias={str(wanted): 1, "30": 1.0},
        presence_penalty=2,
        extra_body={"enable_thinking": False},
    )
    assert tired.usage.completion_tokens > 0
