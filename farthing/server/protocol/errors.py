"""Errors as clients of the OpenAI API expect them: one envelope, a status that tells whether to try again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# status -> the `type` of its envelope
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    431: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
}


class ApiError(Exception):
    """A request that cannot be carried out, and what its sender is told.

    `code` is for programs, `param` the field that is wrong. `retry_after`: seconds after which to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(max(1, min(retry_after, 120)))

    def envelope(self) -> dict[str, Any]:
        """The body; all four keys are always there."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """400: the request itself must change."""
    return ApiError(400, message, code, param=param)


def unsupported(param: str, message: str | None = None) -> ApiError:
    """400 for a field that is known and not served here."""
    return invalid(message or f"{param} is not supported here", param, "unsupported_parameter")


def unavailable(message: str, code: str, retry_after: int = 5) -> ApiError:
    """503: loading, draining, or the engine has died; the same request may succeed later."""
    return ApiError(503, message, code, retry_after=retry_after)
