"""Presets of the chat page: settings under a name, kept beside the conversations."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from farthing.server.pages.history import History
from farthing.server.pages.history_routes import Wishes
from farthing.server.protocol.errors import invalid
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.reading import checked, read_json

_LONGEST_NAME = 60


class PresetRoutes:
    """The handlers; one for a server."""

    def __init__(self, history: History, limits: Limits) -> None:
        self._history, self._limits = history, limits

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/presets", self.listed, methods=["GET"]),
            Route("/api/presets/{name}", self.keep, methods=["PUT"]),
            Route("/api/presets/{name}", self.drop, methods=["DELETE"]),
        ]

    async def listed(self, request: Request) -> Response:
        """All of them, by name."""
        return JSONResponse({"presets": await self._history.do(History.presets)})

    async def keep(self, request: Request) -> Response:
        """Settings under this name, in place of those that had it."""
        name = request.path_params["name"].strip()
        if not 0 < len(name) <= _LONGEST_NAME:
            raise invalid(f"a name has 1 to {_LONGEST_NAME} characters", "name")
        settings = checked(Wishes, await read_json(request, self._limits))
        await self._history.do(History.keep_preset, name, settings.model_dump())
        return JSONResponse({"name": name, "settings": settings.model_dump()})

    async def drop(self, request: Request) -> Response:
        await self._history.do(History.drop_preset, request.path_params["name"])
        return Response(status_code=204)
