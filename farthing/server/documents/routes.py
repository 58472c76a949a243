"""What the chat page asks for about documents. JSON over /api, behind the same gate as all else.

A document is text in a JSON body, or a PDF that is the body: no file of this machine is ever opened by a name that
somebody sends.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from farthing.server.documents import store
from farthing.server.documents.extraction import Extraction
from farthing.server.pages.history import History, Record
from farthing.server.pages.history_routes import LONGEST_TITLE, Strict
from farthing.server.protocol.errors import ApiError, invalid
from farthing.server.protocol.reading import checked, kind_of, read_body, read_json
from farthing.server.protocol.sse import unless_left
from farthing.server.service import Service


class Titled(Strict):
    title: str = Field(min_length=1, max_length=LONGEST_TITLE)


class NewDocument(Titled):
    text: str


def _titled(model: type[Any], data: dict[str, Any]) -> Any:
    wanted = checked(model, data)
    if not wanted.title.strip():
        raise invalid("title: a few words", "title")
    return wanted


class DocumentRoutes:
    """The handlers; one for a server."""

    def __init__(self, service: Service, history: History) -> None:
        self._history, self._limits = history, service.limits
        self._extraction = Extraction(service)

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        return [
            Route("/api/documents", self.listed, methods=["GET"]),
            Route("/api/documents", self.add, methods=["POST"]),
            Route("/api/documents/{id}", self.whole, methods=["GET"]),
            Route("/api/documents/{id}", self.rename, methods=["PATCH"]),
            Route("/api/documents/{id}", self.remove, methods=["DELETE"]),
        ]

    async def _read(self, request: Request, model: type[Any]) -> Any:
        return _titled(model, await read_json(request, self._limits))

    async def listed(self, request: Request) -> Response:
        """Every document without its text, and how much is kept at most."""
        documents = await self._history.do(store.listed)
        most = {"documents": self._limits.documents, "bytes": self._limits.document_bytes}
        most["pdf_bytes"] = self._limits.pdf_bytes
        return JSONResponse({"documents": documents, "most": most})

    async def add(self, request: Request) -> Response:
        """A text under a title. 201 means that it is on the disk and can be searched."""
        if kind_of(request) == "application/pdf":
            return await self._add_pdf(request)
        wanted = await self._read(request, NewDocument)
        text = wanted.text.removeprefix("\ufeff").replace("\r\n", "\n")
        size = len(text.encode())
        if size > self._limits.document_bytes:
            most = self._limits.document_bytes
            raise ApiError(
                413, f"the document has {size} bytes; at most {most}", "document_too_large", param="text"
            )
        if "\0" in text or text.startswith("%PDF-"):
            raise invalid(
                "text: this is no plain text; save it as text (.txt, .md), or send a PDF as one", "text"
            )
        if not text.strip():
            raise invalid("text: there is nothing in it", "text")
        return JSONResponse(await self._kept(wanted.title, text), 201)

    async def _add_pdf(self, request: Request) -> Response:
        """A PDF under the `title` of the query; `blank` says how many of its pages have no text."""
        title = _titled(Titled, dict(request.query_params)).title
        async with self._extraction.place():
            data = await read_body(request, self._limits.pdf_bytes, self._limits)
            found = await unless_left(self._extraction.read(data), request.receive)
        if found is None:
            return Response(status_code=499)
        return JSONResponse(await self._kept(title, found.text) | {"blank": found.blank}, 201)

    async def _kept(self, title: str, text: str) -> Record:
        return await self._history.do(store.add, title.strip(), text, self._limits.documents)

    async def whole(self, request: Request) -> Response:
        return JSONResponse(await self._history.do(store.whole, request.path_params["id"]))

    async def rename(self, request: Request) -> Response:
        wanted = await self._read(request, Titled)
        return JSONResponse(
            await self._history.do(store.rename, request.path_params["id"], wanted.title.strip())
        )

    async def remove(self, request: Request) -> Response:
        await self._history.do(store.remove, request.path_params["id"])
        return Response(status_code=204)
