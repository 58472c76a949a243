"""The pages: files that were built from web/, and those of the report. Nothing else is read.

A file is served if it is in the list made at the start; a name in a request is looked up there and never on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from farthing.errors import UserError
from farthing.report.page import LIVE, SCRIPTS, STYLES, bundle, live_page
from farthing.server.protocol.errors import ApiError

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_CHAT = "chat.html"


class Asset:
    """A file in memory, with the tag by which a browser asks whether its copy is still good."""

    def __init__(self, name: str, content: bytes) -> None:
        self.content, self.kind = content, _KINDS["." + name.rpartition(".")[2]]
        self.tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    def answer(self, request: Request) -> Response:
        headers = {"etag": self.tag, "cache-control": "no-cache", "content-type": self.kind}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers)


def built_files() -> dict[str, Asset]:
    """Every file under server/static by its path there. Raises UserError where the package is incomplete."""
    root = files("farthing.server") / "static"
    found = dict(_walk(root, "")) if root.is_dir() else {}
    if _CHAT not in found:
        raise UserError("the pages are missing from this installation; build them: make web")
    return {name: Asset(name, node.read_bytes()) for name, node in found.items()}


def report_files() -> dict[str, Asset]:
    """The page of runs: the scripts and styles of the report, which ask a server instead of their own file."""
    contents = {
        "runs.html": live_page("/static/report.css", "/static/report.js"),
        "report.js": bundle((*SCRIPTS, *LIVE), wrap=True),
        "report.css": bundle((*STYLES, "live.css")),
    }
    return {name: Asset(name, content.encode()) for name, content in contents.items()}


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for node in sorted(folder.iterdir(), key=lambda node: node.name):
        if node.is_dir():
            yield from _walk(node, f"{prefix}{node.name}/")
        else:
            yield prefix + node.name, node


def page_routes(with_runs: bool) -> list[BaseRoute]:
    """`/` is the chat; `/runs` the runs, where they are served; `/static` what both are made of."""
    assets = built_files() | report_files()

    async def static(request: Request) -> Response:
        found = assets.get(request.path_params["path"])
        if found is None:
            raise ApiError(404, "there is nothing at this address", "not_found")
        return found.answer(request)

    async def chat(request: Request) -> Response:
        return assets[_CHAT].answer(request)

    async def runs(request: Request) -> Response:
        return assets["runs.html"].answer(request)

    async def which(request: Request) -> Response:
        return JSONResponse({"runs": with_runs})

    routes: list[BaseRoute] = [
        Route("/", chat, methods=["GET"]),
        Route("/api/pages", which, methods=["GET"]),
        Route("/static/{path:path}", static, methods=["GET"]),
    ]
    if with_runs:
        routes += [Route("/runs", runs, methods=["GET"]), Route("/runs/{name}", runs, methods=["GET"])]
    return routes
