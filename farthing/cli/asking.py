"""Asking a running server: one request, one answer, and one clear line where there is none."""

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from farthing.errors import FarthingError, UserError

HERE = "http://127.0.0.1:8000"
Url = Annotated[str, typer.Option("--url", metavar="URL", help="Where the server is.")]
KeyFile = Annotated[
    Path | None, typer.Option("--api-key-file", metavar="FILE", help="A file whose first line is a key.")
]
PATIENCE = 10.0


def ask(
    url: str,
    api_key_file: Path | None,
    method: str,
    path: str,
    body: Any = None,
    *,
    patience: float = PATIENCE,
) -> Any:
    """What the server at `url` answers; raises UserError where none does, or what it says it cannot."""
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise UserError(f"--url {url}: write scheme and host, for example {HERE}")
    headers = {"content-type": "application/json"} | _key(api_key_file)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    try:
        with closing(kind(place.hostname, place.port, timeout=patience)) as connection:
            connection.request(method, place.path.rstrip("/") + path, json.dumps(body or {}), headers)
            with connection.getresponse() as answer:
                status, text = answer.status, answer.read()
    except (OSError, ValueError, http.client.HTTPException) as problem:
        words = (
            "it did not answer in time" if isinstance(problem, TimeoutError) else str(problem) or "no answer"
        )
        raise UserError(
            f"no server at {url} ({words}); start one: farthing serve MODEL, or name another with --url"
        ) from None
    if status == 401:
        raise UserError(f"the server at {url} wants a key: add --api-key-file FILE")
    try:
        found = json.loads(text)
        message = found["error"]["message"] if status >= 400 else None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{url}: whatever answers there is not farthing") from None
    if status >= 500:
        raise FarthingError(f"{url}: {message}")
    if message is not None:
        raise UserError(f"{url}: {message}")
    return found


def _key(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    from farthing.server.security import key_lines

    return {"authorization": f"Bearer {key_lines(path)[0]}"}
