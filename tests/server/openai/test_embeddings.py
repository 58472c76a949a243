"""POST /v1/embeddings, as the official client asks for it, against the weights as they are on disk."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from farthing.models.checkpoint import load_model
from farthing.server.openai.embeddings import inputs_of
from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.models import open_served
from farthing.server.protocol.schema import EmbeddingRequest
from farthing.text.tokenizer import Tokenizer

TEXTS = ["maybe 3*8=24", "olá 推理 🙂", "x", "Use 3, 5 and 8 to make 24. " * 20]


def vectors(client: openai.OpenAI, given: Any, **more: Any) -> list[list[float]]:
    found = client.embeddings.create(model="tiny", input=given, **more)
    assert [item.index for item in found.data] == list(range(len(found.data)))
    return [item.embedding for item in found.data]


def test_a_vector_is_the_mean_of_the_last_states(
    client: openai.OpenAI, tokenizer: Tokenizer, model_directory: Path
) -> None:
    model, _ = load_model(model_directory)
    for text, found in zip(TEXTS, vectors(client, TEXTS), strict=True):
        ids = [*tokenizer.start_ids, *tokenizer.encode(text)]
        with torch.no_grad():
            mean_C = model.hidden(torch.tensor([ids]))[0].mean(0)
        assert found == pytest.approx((mean_C / mean_C.norm()).tolist(), abs=1e-5)
        assert sum(number * number for number in found) == pytest.approx(1, abs=1e-5)


def test_floats_and_base64_are_the_same_numbers(client: openai.OpenAI, server: Any) -> None:
    by_default = vectors(client, TEXTS)
    assert vectors(client, TEXTS, encoding_format="float") == by_default
    answer = server.post("/v1/embeddings", {"input": TEXTS[0], "encoding_format": "base64"}).json()
    raw = base64.b64decode(answer["data"][0]["embedding"])
    assert list(struct.unpack("<32f", raw)) == by_default[0]


def test_text_and_ids_are_the_same_input(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    ids = [[*tokenizer.start_ids, *tokenizer.encode(text)] for text in TEXTS]
    expected = vectors(client, TEXTS)
    assert vectors(client, ids) == expected
    assert vectors(client, ids[1]) == vectors(client, TEXTS[1]) == [expected[1]]


def test_usage_counts_what_was_read(client: openai.OpenAI, server: Any) -> None:
    found = client.embeddings.create(model="tiny", input=[[1, 2, 3], [4]], user="me", dimensions=32)
    assert (found.object, found.model) == ("list", "tiny")
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (4, 4)
    answer = server.post("/v1/embeddings", {"input": "x", "surprise": 1}).json()
    assert answer["warnings"] == ["surprise: unknown, ignored"]
    assert server.get("/v1/models/tiny").json()["embedding_size"] == 32


def test_others_make_no_difference_to_a_bit(client: openai.OpenAI, server: Any) -> None:
    alone = [vectors(client, text)[0] for text in TEXTS]
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            server.chat(max_tokens=40, temperature=1)

    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        try:
            writing = [pool.submit(write) for _ in range(3)]
            beside = [pool.submit(vectors, client, [*TEXTS, *TEXTS[::-1]]) for _ in range(12)]
            assert all(job.result() == [*alone, *alone[::-1]] for job in beside)
        finally:
            stop.set()
        for job in writing:
            job.result()
    assert server.get("/health/integrity").status_code == 200


def test_a_whole_context_is_read_and_no_token_more(client: openai.OpenAI) -> None:
    assert len(vectors(client, [[5] * 512, [6]])) == 2
    with pytest.raises(openai.BadRequestError) as caught:
        vectors(client, [[6], [5] * 513])
    assert caught.value.code == "context_length_exceeded"
    assert "input 1 has 513 tokens; the context of tiny is 512" in caught.value.message


@pytest.mark.parametrize(
    ("wrong", "param", "said"),
    [
        ({}, "input", "required"),
        ({"input": ""}, "input", "an empty text has no vector"),
        ({"input": ["x", ""]}, "input", "an empty text has no vector"),
        ({"input": []}, "input", "1 to 64 at once"),
        ({"input": [[]]}, "input", "something to read"),
        ({"input": ["x"] * 65}, "input", "1 to 64 at once"),
        ({"input": [327]}, "input", "token ids go from 0 to 326"),
        ({"input": [[1], [-1]]}, "input", "token ids go from 0 to 326"),
        ({"input": {"text": "x"}}, "input", "should be a valid"),
        ({"input": "x", "dimensions": 16}, "dimensions", "vectors of tiny have 32 numbers"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format", "should be 'float' or 'base64'"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_bad_input_is_refused_in_one_line(server: Any, wrong: dict[str, Any], param: str, said: str) -> None:
    answer = server.post("/v1/embeddings", {"model": "tiny"} | wrong)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert said in error["message"]
    assert "\n" not in error["message"]


def test_an_absent_model_is_named(server: Any) -> None:
    answer = server.post("/v1/embeddings", {"model": "absent", "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_what_takes_longer_than_clients_wait_is_refused(model_directory: Path) -> None:
    model = replace(open_served(model_directory, 0), facts={"speed": {"prefill": 2.0}, "hidden_size": 32})
    limits = replace(Limits(), unstreamed_seconds=10.0)
    assert inputs_of(model, EmbeddingRequest(input=[[1] * 20]), limits) == [[1] * 20]
    with pytest.raises(ApiError, match="send at most 20 at once"):
        inputs_of(model, EmbeddingRequest(input=[[1] * 20, [1]]), limits)


def test_a_client_that_leaves_takes_its_inputs_with_it_and_too_many_are_shed(
    start_server: Any, model_directory: Path
) -> None:
    running = start_server([(None, model_directory)], running=2, limits={"queued_requests": 4})
    with running.frozen(), running.client() as leaver:
        with pytest.raises(httpx.ReadTimeout):
            leaver.post("/v1/embeddings", json={"input": [[1] * 400] * 6}, timeout=0.5)
        refused = running.post("/v1/embeddings", {"input": ["x"] * 7})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert "retry-after" in refused.headers
    until = time.monotonic() + 30
    while running.metric("requests_freed") < 6:
        assert time.monotonic() < until, "inputs of a client that has left are still there"
        time.sleep(0.02)
    assert running.metric("num_requests_running") == running.metric("num_requests_waiting") == 0
    assert running.get("/health/integrity").json()["status"] == "ok"
    assert len(running.post("/v1/embeddings", {"input": ["x"] * 6}).json()["data"]) == 6
