"""POST /v1/embeddings: texts or token ids, one vector each.

A vector is the mean over the input's tokens of the states behind the final norm, scaled to length 1. The engine reads
each input as it reads a prompt; the token that ends the request is drawn and thrown away.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from functools import partial
from typing import Any

from starlette.requests import Request

from farthing.server.openai.completions import prompts_of
from farthing.server.openai.replies import Job, Reply, ReplyRoute, answer_whole
from farthing.server.protocol.errors import invalid, unsupported
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.reading import unknown_fields
from farthing.server.protocol.schema import EmbeddingRequest
from farthing.server.protocol.turn import TurnParser

_PARAMS = {"max_new_tokens": 1, "temperature": 0.0, "embed": True}


class EmbeddingRoute(ReplyRoute):
    """The endpoint."""

    async def __call__(self, request: Request) -> Any:
        arrived, service = time.monotonic(), self._service
        asked = await self._read(EmbeddingRequest, request)
        model = service.model(asked.model)
        inputs = await asyncio.to_thread(inputs_of, model, asked, service.limits)
        # Nothing is shown of what is written, but whoever reads tokens needs to be told how.
        parser = partial(TurnParser, model.tokenizer, model.tags, stop_ids=model.stop_ids, plain=True)
        jobs = [Job(model, ids, _PARAMS, 0, 1, parser) for ids in inputs]
        reply = Reply(service, jobs, arrived)
        return await answer_whole(reply, whole(reply, model, asked), request)


def inputs_of(model: ServedModel, asked: EmbeddingRequest, limits: Limits) -> list[list[int]]:
    """Every input as token ids; raises ApiError 400. Slow: call it in a thread."""
    size = model.facts.get("hidden_size")
    if asked.dimensions not in (None, size):
        raise unsupported(
            "dimensions", f"dimensions: vectors of {model.name} have {size} numbers, and none is left out"
        )
    if "" in ([asked.input] if isinstance(asked.input, str) else asked.input):
        raise invalid("input: an empty text has no vector", "input")
    inputs = prompts_of(model, asked.input, limits.inputs, "input")
    for place, ids in enumerate(inputs):
        if len(ids) > model.context:
            raise invalid(
                f"input {place} has {len(ids)} tokens; the context of {model.name} is {model.context}",
                "input",
                "context_length_exceeded",
            )
    tokens, speed = sum(map(len, inputs)), (model.facts.get("speed") or {}).get("prefill")
    if speed and tokens > speed * limits.unstreamed_seconds:
        raise invalid(
            f"input: {tokens} tokens may take longer here than clients wait ({limits.unstreamed_seconds:g} s): "
            f"send at most {int(speed * limits.unstreamed_seconds)} at once",
            "input",
        )
    return inputs


async def whole(reply: Reply, model: ServedModel, asked: EmbeddingRequest) -> dict[str, Any]:
    """The body, when every vector is there; raises ApiError."""
    async for _ in reply.updates():
        pass
    as_text = asked.encoding_format == "base64"
    vectors = [choice.ending["embedding"] for choice in reply.choices]
    tokens = reply.usage()["prompt_tokens"]
    body = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": place, "embedding": vector if as_text else numbers_of(vector)}
            for place, vector in enumerate(vectors)
        ],
        "model": model.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    warnings = [f"{name}: unknown, ignored" for name in unknown_fields(asked)]
    return body | ({"warnings": warnings} if warnings else {})


def numbers_of(vector: str) -> list[float]:
    """The float32 numbers, little-endian, in a base64 text."""
    raw = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))
