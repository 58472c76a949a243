"""What the chat page asks for about documents. JSON over /api, behind the same gate as all else.

A document is text in a JSON body: no file of this machine is ever opened by a name that somebody sends.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from farthing.server.documents import store
from farthing.server.pages.history import History
from farthing.server.pages.history_routes import LONGEST_TITLE, Strict
from farthing.server.protocol.errors import ApiError, invalid
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.reading import checked, read_json


class Titled(Strict):
    title: str = Field(min_length=1, max_length=LONGEST_TITLE)


class NewDocument(Titled):
    text: str


class DocumentRoutes:
    """The handlers; one for a server."""

    def __init__(self, history: History, limits: Limits) -> None:
        self._history, self._limits = history, limits

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
        wanted = checked(model, await read_json(request, self._limits))
        if not wanted.title.strip():
            raise invalid("title: a few words", "title")
        return wanted

    async def listed(self, request: Request) -> Response:
        """Every document without its text, and how much is kept at most."""
        documents = await self._history.do(store.listed)
        most = {"documents": self._limits.documents, "bytes": self._limits.document_bytes}
        return JSONResponse({"documents": documents, "most": most})

    async def add(self, request: Request) -> Response:
        """A text under a title. 201 means that it is on the disk and can be searched."""
        wanted = await self._read(request, NewDocument)
        text = wanted.text.removeprefix("\ufeff").replace("\r\n", "\n")
        size = len(text.encode())
        if size > self._limits.document_bytes:
            most = self._limits.document_bytes
            raise ApiError(
                413, f"the document has {size} bytes; at most {most}", "document_too_large", param="text"
            )
        if "\0" in text or text.startswith("%PDF-"):
            raise invalid("text: this is no plain text; save the document as text (.txt, .md) first", "text")
        if not text.strip():
            raise invalid("text: there is nothing in it", "text")
        made = await self._history.do(store.add, wanted.title.strip(), text, self._limits.documents)
        return JSONResponse(made, 201)

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
