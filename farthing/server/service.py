"""What every request handler needs: the models, the link to the engine, the limits, the counters, the door.

Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from farthing.server.backend.generation import Generation
from farthing.server.backend.link import EngineLink
from farthing.server.metrics import Metrics
from farthing.server.protocol.errors import ApiError, unavailable
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.models import ServedModel


@dataclass
class Service:
    """One running server. `draining`: no new work is taken and what is open is told to end."""

    models: Sequence[ServedModel]
    link: EngineLink
    limits: Limits
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    open_wakes: set[asyncio.Event] = field(default_factory=set)
    mean_seconds: float = 1.0

    def __post_init__(self) -> None:
        gauge, link = self.metrics.gauge, self.link
        gauge(
            "num_requests_running",
            "Replies being written.",
            lambda: len(link.in_flight) - len(self.waiting()),
        )
        gauge("num_requests_waiting", "Requests without a first token.", lambda: len(self.waiting()))
        gauge("kv_cache_usage_perc", "Share of the cache in use.", self._cache_usage)
        gauge(
            "engine_last_step_age_seconds", "Since the engine was last heard of.", lambda: link.silent_seconds
        )
        gauge(
            "requests_freed", "Aborted requests whose place in the engine is free again.", lambda: link.freed
        )
        gauge("engine_restarts", "Engine processes started anew.", lambda: link.restarts)
        gauge("models_loaded", "Models in memory.", lambda: link.states.count("ready"))
        gauge("engine_resident_bytes", "Memory of the engine process.", lambda: link.resident_bytes)
        gauge("engine_ready", "Whether requests would be served now.", lambda: link.is_ready)

    def model(self, name: str | None) -> ServedModel:
        """The model of that name, the first one for None; raises ApiError 404."""
        if name is None:
            return self.models[0]
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        raise ApiError(
            404, f"there is no model {name!r} here; there is: {known}", "model_not_found", param="model"
        )

    def is_loaded(self, model: ServedModel) -> bool:
        """Whether it is in memory now."""
        return self.link.states[model.number : model.number + 1] == ["ready"]

    def check_ready(self) -> None:
        """Raises ApiError 503 unless requests can be carried out now."""
        if self.draining:
            raise unavailable("the server is shutting down", "shutting_down")
        if self.link.fatal is not None:
            raise unavailable(f"the engine cannot be started: {self.link.fatal}", "engine_failed", 60)
        if self.link.state == "loading":
            raise unavailable("the model is being loaded", "loading")
        if not self.link.is_ready:
            raise unavailable("the engine does not answer and is being restarted", "engine_restarting", 3)

    def waiting(self) -> list[Generation]:
        """Requests that have not got their first token."""
        return [generation for generation in self.link.in_flight.values() if generation.first_token is None]

    @property
    def places(self) -> int:
        """How many replies may be in flight, waiting ones included."""
        return sum(int(facts.get("running", 1)) for facts in self.link.facts) + self.limits.queued_requests

    def admit(self, requests: int, prompt_tokens: int = 0) -> None:
        """Let so many requests with so many prompt tokens in, or raise ApiError 429 saying when to come back."""
        self.check_ready()
        waiting = self.waiting()
        if len(self.link.in_flight) + requests > self.places:
            self._shed("requests", f"{len(waiting)} requests are waiting already", len(waiting))
        tokens = sum(generation.prompt_tokens for generation in waiting)
        if waiting and tokens + prompt_tokens > self.limits.queued_tokens:
            self._shed("tokens", f"prompts of {tokens} tokens are waiting already", len(waiting))

    def _shed(self, reason: str, message: str, waiting: int) -> None:
        self.metrics.shed.add(1, reason)
        at_once = max(1, self.places - self.limits.queued_requests)
        seconds = math.ceil(self.mean_seconds * (1 + waiting / at_once))
        raise ApiError(429, f"{message}; try again in a while", "queue_full", retry_after=seconds)

    def ended(self, generation: Generation) -> None:
        """Keep track of how long a reply takes, for telling people when to come back."""
        self.mean_seconds += 0.1 * (time.monotonic() - generation.submitted - self.mean_seconds)

    def drain(self) -> None:
        """Take no new work and tell everything open to end."""
        self.draining = True
        for wake in self.open_wakes:
            wake.set()

    def _cache_usage(self) -> float:
        total = sum(load["blocks"] for load in self.link.load)
        return 1 - sum(load["free_blocks"] for load in self.link.load) / total if total else 0.0
