"""The web application: routes, errors in their envelope, and the gate around it all."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from farthing.server.health import Health
from farthing.server.openai.chat_routes import ChatRoute
from farthing.server.openai.completions import CompletionRoute
from farthing.server.openai.embeddings import EmbeddingRoute
from farthing.server.openai.responses import ResponsesRoute
from farthing.server.openai.tokens import TokenRoutes
from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.openapi import document
from farthing.server.security import Door, Gate
from farthing.server.service import Service

log = logging.getLogger("farthing.server")

Handler = Callable[[Request], Awaitable[Any]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def routes_of(service: Service, pages: Sequence[BaseRoute] = ()) -> list[BaseRoute]:
    """Every route there is, `pages` and what they ask for included; all but /health/live are behind the gate."""
    health, tokens = Health(service), TokenRoutes(service)
    described = document()

    async def openapi(request: Request) -> Response:
        return JSONResponse(described)

    def get(path: str, handler: Handler) -> Route:
        return Route(path, handler, methods=["GET"])

    def post(path: str, handler: Handler) -> Route:
        return Route(path, _answering(handler), methods=["POST"])

    return [
        get("/health", health.live),
        get("/health/live", health.live),
        get("/health/ready", health.ready),
        get("/health/generate", health.generate),
        get("/health/integrity", health.integrity),
        get("/metrics", health.metrics),
        get("/openapi.json", openapi),
        get("/v1/models", health.models),
        get("/v1/models/{name:path}", health.model),
        post("/v1/chat/completions", ChatRoute(service)),
        post("/v1/completions", CompletionRoute(service)),
        post("/v1/responses", ResponsesRoute(service)),
        post("/v1/embeddings", EmbeddingRoute(service)),
        post("/tokenize", tokens.tokenize),
        post("/detokenize", tokens.detokenize),
        *pages,
    ]


def _answering(handler: Handler) -> Handler:
    """A function where there was an object: the router takes other callables for applications."""

    async def answer(request: Request) -> Any:
        return await handler(request)

    return answer


def build(
    service: Service, door: Door, lifespan: Lifespan | None = None, pages: Sequence[BaseRoute] = ()
) -> ASGIApp:
    """The application that a server runs."""
    routes = routes_of(service, pages)
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _bug},
    )
    known = frozenset(route.path for route in routes if isinstance(route, Route))
    return Gate(app, door, service.metrics, known, service.limits.header_bytes)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.envelope(), error.status, headers=error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router refuses: unknown paths, wrong methods."""
    assert isinstance(error, HTTPException)
    words = {404: "there is nothing at this address", 405: "this method is not allowed here"}
    message = words.get(error.status_code, str(error.detail))
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    return JSONResponse(
        ApiError(error.status_code, message, code).envelope(), error.status_code, headers=error.headers
    )


async def _bug(request: Request, error: Exception) -> Response:
    """Anything else is a bug of ours: the log has the traceback, the client a status that says not to try again."""
    body = ApiError(500, "internal error", "internal_error").envelope()
    return JSONResponse(body, 500, headers={"x-should-retry": "false"})
