"""The runs of a folder, as JSON for the page of runs: what `farthing report` writes into a file, now and again."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from farthing.errors import FarthingError, UserError
from farthing.report.gather import gather_live, glance
from farthing.report.groups import at_step, steps_with
from farthing.report.page import embed
from farthing.runs import samples
from farthing.server.protocol.errors import ApiError, invalid

_WATCHED = ("status.json", "metrics.jsonl", "samples.jsonl", "ledger.jsonl", "summary.json", "config.json")


class RunRoutes:
    """The handlers. A name in a request is looked up among the runs there are, never made into a path."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where the folder cannot hold runs."""
        if not folder.is_dir():
            raise UserError(f"--runs {folder}: no such directory")
        if is_run(folder):
            raise UserError(
                f"--runs {folder}: this is a run itself; name the directory it lies in: "
                f"--runs {folder.resolve().parent}"
            )
        self._folder = folder
        self._gathered: dict[str, tuple[str, str]] = {}
        self._reading: dict[str, asyncio.Lock] = {}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/runs", self.listed, methods=["GET"]),
            Route("/api/runs/{name}", self.run, methods=["GET"]),
            Route("/api/runs/{name}/samples", self.samples, methods=["GET"]),
        ]

    def _runs(self) -> dict[str, Path]:
        return {path.name: path for path in sorted(self._folder.iterdir()) if is_run(path)}

    async def listed(self, request: Request) -> Response:
        """Every run with its state and where it stands, those that changed last first."""
        return _answer(request, await asyncio.to_thread(self._listed))

    def _listed(self) -> str:
        runs = self._runs().items()
        glances = [glance(path) | {"name": name, "changed": _changed(path)} for name, path in runs]
        return embed({"runs": sorted(glances, key=lambda run: -float(run["changed"]))})

    async def run(self, request: Request) -> Response:
        """The document of one run, as a report embeds it but for the samples; 304 while nothing has changed."""
        stamp, text = await self._gather(request.path_params["name"])
        return _answer(request, text, stamp)

    async def samples(self, request: Request) -> Response:
        """Every group that was kept of one step, by `stage` and `step`; or the steps that hold the text `find`."""
        path, asked = await self._path(request.path_params["name"]), request.query_params
        try:
            if asked.get("find"):
                text = await asyncio.to_thread(_found, path, asked["find"])
            else:
                step = float(asked.get("step", ""))
                text = await asyncio.to_thread(_samples, path, asked.get("stage", ""), step)
        except ValueError:
            raise invalid("step: a number", "step") from None
        except FarthingError as problem:
            raise ApiError(404, str(problem), "not_found") from None
        return _answer(request, text)

    async def _path(self, name: str) -> Path:
        path = (await asyncio.to_thread(self._runs)).get(name)
        if path is None:
            raise ApiError(404, "there is no such run", "not_found")
        return path

    async def _gather(self, name: str) -> tuple[str, str]:
        """What is known of a run, read again when one of its files has changed."""
        path = await self._path(name)
        async with self._reading.setdefault(name, asyncio.Lock()):
            stamp = await asyncio.to_thread(_stamp, path)
            kept = self._gathered.get(name)
            if kept is None or kept[0] != stamp:
                try:
                    kept = stamp, await asyncio.to_thread(_document, path)
                except FarthingError as problem:
                    raise ApiError(404, str(problem), "not_found") from None
                self._gathered = {
                    name: kept
                }  # one run is looked at at a time; another is read when it is asked for
            return kept


def _document(path: Path) -> str:
    return embed(gather_live(path))


def _samples(path: Path, stage: str, step: float) -> str:
    return embed({"groups": at_step(samples.read(path / "samples.jsonl"), stage, step)})


def _found(path: Path, wanted: str) -> str:
    return embed({"steps": steps_with(samples.read(path / "samples.jsonl"), wanted)})


def is_run(path: Path) -> bool:
    """Whether a directory holds the files of a run; a model has neither of these."""
    return any((path / name).is_file() for name in ("recipe.toml", "status.json"))


def _changed(path: Path) -> float:
    times = [(path / name).stat().st_mtime for name in _WATCHED if (path / name).exists()]
    return max(times, default=0.0)


def _stamp(path: Path) -> str:
    """Other whenever one of the files has changed, or the run has died."""
    parts: list[Any] = [glance(path)["state"]]
    for name in (*_WATCHED, *(str(file.relative_to(path)) for file in sorted(path.glob("stages/*/*.json")))):
        try:
            found = (path / name).stat()
        except FileNotFoundError:
            continue
        parts += [name, found.st_size, found.st_mtime_ns]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _answer(request: Request, text: str, stamp: str | None = None) -> Response:
    tag = f'"{stamp or hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(text, media_type="application/json", headers=headers)
