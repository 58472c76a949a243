"""Whether the server lives, whether it would serve a request now, and whether a token really comes out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from farthing.server.backend.generation import EngineGone
from farthing.server.protocol.errors import ApiError, unavailable
from farthing.server.protocol.models import ServedModel
from farthing.server.service import Service

_PROBE_SECONDS = 10.0
_PROBE_KEPT_SECONDS = 30.0


class Health:
    """The health routes and what else one asks a server about itself."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._probed = -_PROBE_KEPT_SECONDS
        self._probing = asyncio.Lock()

    async def live(self, request: Request) -> Response:
        """This process answers. Says nothing about the engine."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 only if the engine computes or waits for work and there is room for a request; 503 says why not."""
        self._service.check_ready()
        if len(self._service.link.in_flight) >= self._service.places:
            raise unavailable("as many requests are waiting as may", "queue_full")
        return JSONResponse({"status": "ok"})

    async def generate(self, request: Request) -> Response:
        """200 only if a token came out of every model in memory within the last half minute."""
        async with self._probing:
            if time.monotonic() - self._probed > _PROBE_KEPT_SECONDS:
                self._service.check_ready()
                there = [model for model in self._service.models if self._service.is_loaded(model)]
                await asyncio.gather(*(self._probe(model) for model in there))
                self._probed = time.monotonic()
        return JSONResponse({"status": "ok"})

    async def _probe(self, model: ServedModel) -> None:
        try:
            generation = self._service.link.submit(model.number, [model.stop_ids[0]], {"max_new_tokens": 1})
        except EngineGone as problem:
            raise unavailable(str(problem), "engine_restarting") from None
        try:
            await asyncio.wait_for(generation.wake.wait(), _PROBE_SECONDS)
            generation.take()
        except (TimeoutError, EngineGone):
            raise unavailable(f"no token came out of {model.name}", "engine_stuck") from None
        finally:
            generation.abort()

    async def metrics(self, request: Request) -> Response:
        """Everything that is counted, for Prometheus."""
        return PlainTextResponse(
            self._service.metrics.page(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def models(self, request: Request) -> Response:
        """What is served, the default first."""
        return JSONResponse(
            {"object": "list", "data": [self._described(model) for model in self._service.models]}
        )

    def _described(self, model: ServedModel) -> dict[str, Any]:
        return described(model) | {"loaded": self._service.is_loaded(model)}

    async def model(self, request: Request) -> Response:
        """One of them."""
        return JSONResponse(self._described(self._service.model(request.path_params["name"])))

    async def integrity(self, request: Request) -> Response:
        """The engine's own books, checked: 200 if every block and slot is accounted for."""
        self._service.check_ready()
        try:
            complaint = await self._service.link.check()
        except (EngineGone, TimeoutError) as problem:
            raise unavailable(str(problem) or "the engine did not answer", "engine_stuck") from None
        if complaint is not None:
            raise ApiError(500, complaint, "integrity", headers={"x-should-retry": "false"})
        return JSONResponse({"status": "ok", "engines": self._service.link.load})


def described(model: ServedModel) -> dict[str, Any]:
    """A model as /v1/models shows it; the context is the one that is really there."""
    thinking = model.thinking
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "farthing",
        "max_model_len": model.context,
        "system_fingerprint": model.fingerprint,
        "template_hash": model.template_hash,
        "capabilities": {
            "chat": model.speaks,
            "thinking": ["on", "off"] if thinking is not None else [],
            "tools": model.calls_tools,
            "structured_output": True,
            "old_thinking": "dropped before the last user message" if thinking is not None else None,
        },
        "defaults": {
            "temperature": model.defaults.temperature,
            "top_p": model.defaults.top_p,
            "top_k": model.defaults.top_k,
            "max_tokens": model.defaults.max_new_tokens,
        },
        "task": model.card.get("task"),
        "parameters": model.facts.get("parameters"),
        "embedding_size": model.facts.get("hidden_size"),
    }
