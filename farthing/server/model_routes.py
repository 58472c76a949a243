"""What is in memory, and having a model leave it: what `farthing ps` and `farthing stop` ask. JSON over /api."""

from __future__ import annotations

import math
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.reading import checked, read_json
from farthing.server.service import Service

_LONGEST_WAIT = 600.0


class Unload(BaseModel):
    """`wait_seconds`: how long to wait for replies that are being written; they are ended in any case."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    wait_seconds: float = Field(30.0, ge=0, le=_LONGEST_WAIT)


class ModelRoutes:
    """The handlers; one for a server. `keep_alive`: seconds after which an idle model leaves memory."""

    def __init__(self, service: Service, keep_alive: float) -> None:
        self._service, self._keep_alive = service, keep_alive

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/models", self.listed, methods=["GET"]),
            Route("/api/models/{name:path}/unload", self.unload, methods=["POST"]),
        ]

    async def listed(self, request: Request) -> Response:
        """Every model that is served, in memory or not, and what it is doing."""
        link = self._service.link
        return JSONResponse(
            {
                "models": [self._shown(model) for model in self._service.models],
                "keep_alive_seconds": self._keep_alive if math.isfinite(self._keep_alive) else None,
                "in_turns": link.in_turns,
                "resident_bytes": link.resident_bytes,
                "engine": "ready" if link.is_ready else link.state,
            }
        )

    async def unload(self, request: Request) -> Response:
        """200 when it has left memory, 202 while it is still writing: it leaves when that has ended."""
        wanted = checked(Unload, await read_json(request, self._service.limits))
        model = self._service.model(request.path_params["name"])
        self._service.check_ready()
        left = await self._service.link.unload(model.number, wanted.wait_seconds)
        return JSONResponse(self._shown(model), 200 if left else 202)

    def _shown(self, model: ServedModel) -> dict[str, Any]:
        link, number = self._service.link, model.number
        flying = [one for one in link.in_flight.values() if one.model == number]
        waiting = sum(one.first_token is None for one in flying)
        used = link.used.get(number)
        there = self._service.is_loaded(model)
        load = link.load[number] if there and number < len(link.load) else {}
        return {
            "id": model.name,
            "state": link.states[number] if number < len(link.states) else "unloaded",
            "parameters": model.facts.get("parameters"),
            "context": model.context,
            # Weights as the process grew by them when they came, or as they are expected to be.
            "weight_bytes": model.facts.get("grown_bytes", model.facts.get("weight_bytes")),
            "cache_bytes": load.get("cache_bytes", 0),
            "most_cache_bytes": model.facts.get("cache_bytes"),
            "running": len(flying) - waiting,
            "waiting": waiting,
            "last_used_seconds": None if used is None else round(time.monotonic() - used, 1),
        }
