"""Raw completions, and prompts judged token by token as lm-eval's loglikelihood does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from farthing.models.checkpoint import load_model
from farthing.text.tokenizer import Tokenizer


def complete(client: openai.OpenAI, prompt: Any, **more: Any) -> Any:
    return client.completions.create(model="tiny", prompt=prompt, **more)


def expected_logprobs(directory: Path, ids: list[int]) -> torch.Tensor:
    """float32 [T - 1, V]: row t is the distribution of token t + 1, from the weights as they are on disk."""
    model, _ = load_model(directory)
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids]))[0, :-1], dim=-1)


def spelled(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def test_text_and_ids_are_the_same_prompt(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    text = "maybe 3*8=24 推理"
    by_text = complete(client, text, seed=3, max_tokens=20)
    by_ids = complete(client, tokenizer.encode(text), seed=3, max_tokens=20)
    assert by_text.choices[0].text == by_ids.choices[0].text
    assert by_text.usage == by_ids.usage


def test_several_prompts_and_choices_come_in_order(client: openai.OpenAI) -> None:
    prompts = ["one", "two", "three"]
    together = complete(client, prompts, seed=1, n=2, max_tokens=6)
    assert [choice.index for choice in together.choices] == list(range(6))
    for place, prompt in enumerate(prompts):
        alone = complete(client, prompt, seed=1, n=2, max_tokens=6)
        pair = together.choices[2 * place : 2 * place + 2]
        assert [choice.text for choice in alone.choices] == [choice.text for choice in pair]


def test_a_stream_says_what_a_whole_reply_says(client: openai.OpenAI) -> None:
    whole = complete(client, ["a", "b"], seed=5, max_tokens=25, echo=True)
    texts = ["", ""]
    finishes: list[list[str]] = [[], []]
    for chunk in complete(client, ["a", "b"], seed=5, max_tokens=25, echo=True, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            finishes[choice.index] += [choice.finish_reason] if choice.finish_reason else []
    assert texts == [choice.text for choice in whole.choices]
    assert finishes == [[choice.finish_reason] for choice in whole.choices]


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_given_text_is_judged_by_the_raw_model(
    client: openai.OpenAI, tokenizer: Tokenizer, model_directory: Path, max_tokens: int
) -> None:
    ids = tokenizer.encode("Use 3, 5 and 8 to make 24. olá 推理 🙂")
    reply = complete(client, [ids, ids[:5]], echo=True, logprobs=1, max_tokens=max_tokens, temperature=0)
    expected = expected_logprobs(model_directory, ids)
    for choice, length in zip(reply.choices, (len(ids), 5), strict=True):
        found = choice.logprobs
        assert len(found.tokens) == length + max_tokens
        assert found.token_logprobs[0] is None
        wanted = expected[torch.arange(length - 1), torch.tensor(ids[1:length])]
        assert found.token_logprobs[1:length] == pytest.approx(wanted.tolist(), abs=1e-3)
        greedy = [tokenizer.token_bytes(int(token)) for token in expected[: length - 1].argmax(-1)]
        for top, best in zip(found.top_logprobs[1:length], greedy, strict=True):
            assert next(iter(top)) == spelled(best)


def test_every_generated_token_has_its_logprob_even_the_last(client: openai.OpenAI) -> None:
    for seed in range(6):
        reply = complete(client, "x", seed=seed, max_tokens=9, logprobs=2)
        assert len(reply.choices[0].logprobs.tokens) == reply.usage.completion_tokens
        assert all(len(top) <= 2 for top in reply.choices[0].logprobs.top_logprobs)


def test_text_never_becomes_a_control_token(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    reply = complete(client, "<|end|><think>", echo=True, logprobs=0, max_tokens=0)
    assert len(reply.choices[0].logprobs.tokens) == len(tokenizer.encode("<|end|><think>")) > 4
    assert reply.choices[0].text == "<|end|><think>"


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": [10**9]},
        {"prompt": [-1]},
        {"prompt": "x", "logprobs": 21},
        {"prompt": "x", "suffix": "y"},
        {"prompt": "x", "best_of": 2},
        {"prompt": "x", "max_tokens": 600},
        {"prompt": "x " * 600, "max_tokens": 1},
        {"prompt": ["x"] * 65},
        {"prompt": "x", "echo": True, "logprobs": 1, "stream": True},
        {"prompt": "x", "regex": "("},
    ],
    ids=lambda wrong: json.dumps(wrong)[:40],
)
def test_what_cannot_be_done_is_refused(client: openai.OpenAI, wrong: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**({"model": "tiny", "extra_body": {}} | _extra(wrong)))
    assert caught.value.code


def _extra(body: dict[str, Any]) -> dict[str, Any]:
    regex = body.pop("regex", None)
    return body | ({"extra_body": {"regex": regex}} if regex else {})


def test_a_regex_binds_a_completion(client: openai.OpenAI) -> None:
    for seed in range(3):
        reply = complete(client, "x", seed=seed, max_tokens=20, extra_body={"regex": "(yes|no)!"})
        assert reply.choices[0].text in ("yes!", "no!")
        assert reply.choices[0].finish_reason == "stop"
