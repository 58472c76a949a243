"""From the bytes of a request's body to a checked object, or to the one sentence that says what is wrong with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request

from farthing.server.protocol.errors import ApiError, invalid, unsupported
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.schema import HARMLESS, INSTEAD, UNSERVED

Model = TypeVar("Model", bound=BaseModel)


async def read_json(request: Request, limits: Limits) -> dict[str, Any]:
    """The object in the body. Raises ApiError: 400, 408, 413 or 415."""
    if kind_of(request) != "application/json":
        raise ApiError(415, "send the request as content-type: application/json", "unsupported_media_type")
    return parse(await read_body(request, limits.body_bytes, limits))


def kind_of(request: Request) -> str:
    """The media type that the body is said to have, in small letters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, most: int, limits: Limits) -> bytes:
    """At most `most` bytes. Raises ApiError: 400, 408 or 413."""
    try:
        return await asyncio.wait_for(_body(request, most), limits.body_seconds)
    except TimeoutError:
        raise ApiError(408, f"the body took longer than {limits.body_seconds:g} s", "body_timeout") from None


async def _body(request: Request, most: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        _too_large(most)
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > most:
                _too_large(most)
            pieces.append(piece)
    except ClientDisconnect:
        raise ApiError(400, "the connection ended within the body", "incomplete_body") from None
    return b"".join(pieces)


def _too_large(most: int) -> NoReturn:
    raise ApiError(413, f"the body is larger than {most} bytes", "body_too_large")


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object of finite numbers and proper text."""
    try:
        data = json.loads(body, parse_constant=_no_constant)
        # A lone surrogate is legal in JSON and in no encoding; the tokenizer would be the one to find out.
        if b"\\u" in body:
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError:
        raise invalid("the body is nested too deeply", code="invalid_json") from None
    except UnicodeError:
        raise invalid("the body is not UTF-8 text", code="invalid_json") from None
    except ValueError as problem:
        raise invalid(f"the body is not JSON: {problem}", code="invalid_json") from None
    if not isinstance(data, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    return data


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def checked(
    model: type[Model], data: dict[str, Any], unserved: Mapping[str, tuple[Any, ...]] = UNSERVED
) -> Model:
    """`data` as a request. Raises ApiError 400 naming the field."""
    for field, idle in unserved.items():
        if field in data and data[field] not in idle:
            raise unsupported(field, INSTEAD.get(field))
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        raise _explained(problem.errors(include_url=False)) from None
    except RecursionError:
        raise invalid("the body is nested too deeply", code="invalid_json") from None


def _explained(errors: list[ErrorDetails]) -> ApiError:
    """The first complaint, and of a union's complaints the one that got furthest."""
    first = errors[0]["loc"][0] if errors[0]["loc"] else None
    related = [error for error in errors if error["loc"][:1] == ((first,) if first is not None else ())]
    worst = max(related, key=lambda error: len(error["loc"]))
    param = _param(worst["loc"])
    if worst["type"] == "missing":
        return invalid(f"{param}: this field is required", param, "missing_required_parameter")
    message = worst["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return invalid(f"{param}: {message}" if param else message, param or None)


def _param(loc: tuple[int | str, ...]) -> str:
    """('messages', 0, 'content', 'list[TextPart]', 1, 'text') -> messages[0].content[1].text"""
    out = ""
    for part in loc:
        if isinstance(part, int):
            out += f"[{part}]"
        elif not _names_a_type(part):
            out += f".{part}" if out else part
    return out


def _names_a_type(part: str) -> bool:
    return "[" in part or part in ("str", "int", "float", "bool", "dict") or part[:1].isupper()


def unknown_fields(request: BaseModel, unserved: Mapping[str, Any] = UNSERVED) -> list[str]:
    """Fields that nobody here knows, for the warnings of the reply."""
    extra = request.model_extra or {}
    return sorted(name for name in extra if name not in unserved and name not in HARMLESS)
