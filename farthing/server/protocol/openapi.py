"""The OpenAPI 3.1 document, made from the models that check requests; GET /openapi.json."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import farthing
from farthing.server.protocol.answers import (
    ChatCompletion,
    Detokenized,
    EmbeddingList,
    ErrorEnvelope,
    Model,
    ModelList,
    Response,
    Status,
    TextCompletion,
    Tokenized,
)
from farthing.server.protocol.items import ResponsesRequest
from farthing.server.protocol.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)

_REFERENCE = "#/components/schemas/{model}"
_REQUESTS: tuple[type[BaseModel], ...] = (
    ChatRequest,
    CompletionRequest,
    ResponsesRequest,
    EmbeddingRequest,
    TokenizeRequest,
    DetokenizeRequest,
)
_ANSWERS: tuple[type[BaseModel], ...] = (
    ChatCompletion,
    TextCompletion,
    Response,
    EmbeddingList,
    Tokenized,
    Detokenized,
    ErrorEnvelope,
    Model,
    ModelList,
    Status,
)
# One event of a stream; what a chunk is made of is OpenAI's to say.
_EVENT = {
    "type": "object",
    "properties": {"data": {"type": "string", "description": "A chunk as JSON, an error, or [DONE]."}},
    "required": ["data"],
}
_MEANINGS = {
    400: "The request itself must change.",
    401: "A key is needed, or this one is not known.",
    403: "This host name or origin is not served.",
    404: "No such model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body must be application/json.",
    429: "Too much is waiting already; Retry-After says when to come back.",
    500: "A bug.",
    503: "Loading, restarting or shutting down; Retry-After says when to come back.",
}


def document() -> dict[str, Any]:
    """The whole document."""
    asked = [(model, "validation") for model in _REQUESTS]
    given = [(model, "serialization") for model in _ANSWERS]
    _, schemas = models_json_schema([*asked, *given], ref_template=_REFERENCE)  # type: ignore[list-item]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "farthing",
            "version": farthing.__version__,
            "description": "The OpenAI API as farthing serves it. Limits and extensions: docs/serving.md.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        # Where the server has keys; where it has none, nothing is needed.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _paths() -> dict[str, Any]:
    return {
        "/v1/chat/completions": {
            "post": _streaming(
                "createChatCompletion", "Go on with a conversation.", ChatRequest, ChatCompletion
            )
        },
        "/v1/completions": {
            "post": _streaming(
                "createCompletion", "Go on with a text, or judge it.", CompletionRequest, TextCompletion
            )
        },
        "/v1/responses": {
            "post": _streaming(
                "createResponse", "Go on with a conversation, told in items.", ResponsesRequest, Response
            )
        },
        "/v1/embeddings": {
            "post": _posting(
                "createEmbedding", "Texts as vectors.", EmbeddingRequest, EmbeddingList, 429, 503
            )
        },
        "/tokenize": {
            "post": _posting("tokenize", "The ids of a text or a prompt.", TokenizeRequest, Tokenized)
        },
        "/detokenize": {"post": _posting("detokenize", "The text of ids.", DetokenizeRequest, Detokenized)},
        "/v1/models": {"get": _getting("listModels", "What is served, the default first.", ModelList)},
        "/v1/models/{model}": {
            "get": _getting("getModel", "One model.", Model, 404)
            | {
                "parameters": [
                    {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
                ]
            }
        },
        "/health/live": {"get": _getting("live", "This process answers.", Status) | {"security": [{}]}},
        "/health/ready": {"get": _getting("ready", "Requests would be served now.", Status, 503)},
        "/health/generate": {"get": _getting("generate", "A token came out lately.", Status, 503)},
        "/metrics": {"get": _metrics()},
    }


def _streaming(name: str, summary: str, asked: type[BaseModel], given: type[BaseModel]) -> dict[str, Any]:
    found = _posting(name, summary, asked, given, 429, 503)
    content = {**_json(given), "text/event-stream": {"schema": _EVENT}}
    found["responses"]["200"] = {"description": "The reply; events if it is streamed.", "content": content}
    return found


def _posting(
    name: str, summary: str, asked: type[BaseModel], given: type[BaseModel], *more: int
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": _json(asked)},
        "responses": {
            "200": {"description": summary, "content": _json(given)},
            **_errors(400, 401, 403, 404, 408, 413, 415, 500, *more),
        },
    }


def _getting(name: str, summary: str, given: type[BaseModel], *more: int) -> dict[str, Any]:
    answer = {"200": {"description": summary, "content": _json(given)}}
    return {"operationId": name, "summary": summary, "responses": {**answer, **_errors(401, 403, *more)}}


def _metrics() -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    answer = {"200": {"description": "Prometheus's text format.", "content": content}}
    return {
        "operationId": "metrics",
        "summary": "What is counted.",
        "responses": {**answer, **_errors(401, 403)},
    }


def _errors(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {"description": _MEANINGS[status], "content": _json(ErrorEnvelope)}
        for status in statuses
    }


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}
