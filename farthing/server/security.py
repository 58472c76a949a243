"""The gate in front of every route: who may ask, from where, and what browsers may make of the answers.

Default is no. Bound to this machine, only its own names are served (against DNS rebinding); where there are keys, every
route but `/health/live` needs one. Decisions look at `scope["path"]` and nothing derived from it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farthing.errors import UserError
from farthing.server.metrics import Metrics
from farthing.server.protocol.errors import ApiError

PUBLIC = frozenset({"/health/live"})
SESSION_PATH = "/session"
COOKIE = "farthing_session"
_SESSION_SECONDS = 30 * 24 * 3600
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
_SAFE_METHODS = frozenset({"GET", "HEAD"})

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        # Text becomes markup in one place only, the sanitiser of the chat page; anywhere else the browser throws.
        "require-trusted-types-for 'script'; trusted-types dompurify"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

_LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>farthing</title>
<form method="post" action="/session"><p><label>Key <input type="password" name="key" autofocus></label>
<button>Enter</button></p></form></html>"""


class Keys:
    """The keys that open this server; none means that it is open to whoever reaches it."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, key: str) -> bool:
        """Whether the key is one of them. Takes the same time for every wrong one."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(found)


def read_keys(path: Path) -> Keys:
    """The keys of a file; raises UserError."""
    return Keys(key_lines(path))


def key_lines(path: Path) -> list[str]:
    """One key a line; empty lines and lines that begin with # are not. Raises UserError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise UserError(
            f"{path}: there is no key in it; write one of at least 16 characters on a line of its own"
        )
    if any(len(key) < 16 for key in keys):
        raise UserError(
            f"{path}: a key of fewer than 16 characters can be guessed; make one: openssl rand -hex 24"
        )
    return keys


def is_loopback(host: str) -> bool:
    """Whether binding to `host` keeps the server on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass
class Door:
    """What is let in. `hosts`: names besides this machine's own; `origins`: pages elsewhere that may ask, scheme and
    all; `local`: only names of this machine and its network are served."""

    keys: Keys
    local: bool
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    sessions: dict[str, float] = field(default_factory=dict)

    def check_host(self, headers: Headers) -> None:
        """Raises ApiError 403 for a name that is not ours: a page elsewhere may have pointed its own name at us."""
        name = host_name(headers.get("host", ""))
        if self.local and name not in self.hosts and not is_own_name(name):
            raise ApiError(403, f"requests for host {name[:80]!r} are not served here", "host_refused")

    def check_origin(self, headers: Headers) -> None:
        """Raises ApiError 403 for a page of another origin."""
        origin = headers.get("origin")
        if origin is None or origin in self.origins:
            return
        if origin == "null" or urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise ApiError(403, f"pages from {origin[:80]!r} may not ask here", "origin_refused")

    def check_key(self, headers: Headers) -> None:
        """Raises ApiError 401 unless the request brings a key, or a session that was opened with one."""
        if not self.keys:
            return
        bearer = headers.get("authorization", "")
        scheme, _, key = bearer.partition(" ")
        offered = [key.strip()] if scheme.lower() == "bearer" else []
        offered += [headers["x-api-key"]] if "x-api-key" in headers else []
        if any(self.keys.admit(key) for key in offered) or (not offered and self._in_session(headers)):
            return
        raise ApiError(
            401,
            "a key is needed: authorization: Bearer KEY" if not offered else "this key is not known here",
            "invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )

    def open_session(self) -> str:
        """A cookie's value for somebody who has shown a key."""
        now = time.time()
        self.sessions = {name: end for name, end in self.sessions.items() if end > now}
        name = secrets.token_urlsafe(32)
        self.sessions[name] = now + _SESSION_SECONDS
        return name

    def _in_session(self, headers: Headers) -> bool:
        for pair in headers.get("cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == COOKIE and self.sessions.get(value, 0.0) > time.time():
                return True
        return False


def host_name(header: str) -> str:
    """The name in a Host header, without its port."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[: header.find("]") + 1]
    return header.partition(":")[0]


def is_own_name(name: str) -> bool:
    """Names that nobody else can point at us: literal private addresses, localhost, this machine's own."""
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost" or name.endswith(_LOCAL_SUFFIXES) or name == socket.gethostname().lower()
    return address.is_loopback or address.is_private


class Gate:
    """The outermost ASGI application."""

    def __init__(
        self, app: ASGIApp, door: Door, metrics: Metrics, routes: frozenset[str], header_bytes: int
    ) -> None:
        self._app, self._door, self._metrics, self._routes = app, door, metrics, routes
        self._header_bytes = header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        label = path if path in self._routes else "other"
        headers = Headers(scope=scope)
        request_id = secrets.token_hex(8)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.add(1, label, str(message["status"]))
                out = MutableHeaders(scope=message)
                out["x-request-id"] = request_id
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                self._share(headers, out)
            await send(message)

        try:
            answer = await self._judge(scope, receive, headers)
        except ApiError as error:
            answer = self._refusal(error, scope, headers)
        await (answer or self._app)(scope, receive, sending)

    async def _judge(self, scope: Scope, receive: Receive, headers: Headers) -> Response | None:
        """None lets the request through."""
        door, path = self._door, scope["path"]
        if sum(len(name) + len(value) for name, value in headers.raw) > self._header_bytes:
            raise ApiError(
                431, f"the headers are larger than {self._header_bytes} bytes", "headers_too_large"
            )
        door.check_host(headers)
        door.check_origin(headers)
        if scope["method"] == "OPTIONS" and headers.get("origin") in door.origins:
            return Response(status_code=204)
        if path in PUBLIC and scope["method"] in _SAFE_METHODS:
            return None
        if path == SESSION_PATH and scope["method"] == "POST" and door.keys:
            return await self._log_in(receive)
        door.check_key(headers)
        return None

    async def _log_in(self, receive: Receive) -> Response:
        """A key, sent by the page's form, against a cookie that no script can read."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body") or len(body) > 4096:
                break
        key = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0]
        if not self._door.keys.admit(key):
            raise ApiError(401, "this key is not known here", "invalid_api_key")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, self._door.open_session(), max_age=_SESSION_SECONDS, httponly=True, samesite="strict"
        )
        return answer

    def _refusal(self, error: ApiError, scope: Scope, headers: Headers) -> Response:
        wants_page = "text/html" in headers.get("accept", "") and scope["method"] in ("GET", "POST")
        if error.status == 401 and wants_page:
            return HTMLResponse(_LOGIN, 401)
        return JSONResponse(error.envelope(), error.status, headers=error.headers)

    def _share(self, asked: Headers, out: MutableHeaders) -> None:
        """Let the pages that were named read the answer; nobody else."""
        origin = asked.get("origin")
        if origin is None or origin not in self._door.origins:
            return
        out["access-control-allow-origin"] = origin
        out["access-control-allow-headers"] = "authorization, content-type, x-api-key"
        out["access-control-allow-methods"] = "GET, POST"
        out["cross-origin-resource-policy"] = "cross-origin"
        out.add_vary_header("Origin")
