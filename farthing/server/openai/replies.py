"""One request being answered: its choices in the engine, what comes of them, and the end of them, whatever happens.

A reply that was begun must be closed; that takes whatever is still being written out of the engine: the client has
gone, a deadline has passed, something failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from farthing.server.backend.generation import EngineGone, EngineRefused, Generation, Token
from farthing.server.protocol.errors import invalid, unavailable
from farthing.server.protocol.forms import Judge
from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.reading import checked, read_json
from farthing.server.protocol.schema import UNSERVED
from farthing.server.protocol.sse import unless_left
from farthing.server.protocol.turn import Delta, TurnParser
from farthing.server.service import Service

Asked = TypeVar("Asked", bound=BaseModel)
_SEED_STRIDE = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Job:
    """Everything the engine needs to know, and how to read what it writes. One prompt, `n` choices."""

    model: ServedModel
    prompt_ids: list[int]
    params: dict[str, Any]
    seed: int
    n: int
    make_parser: Callable[[], TurnParser]
    steering: dict[str, Any] = field(default_factory=dict)
    grammar: str | None = None


class Update(NamedTuple):
    """What became certain of one region of a choice; `finish` is set on its last update."""

    choice: int
    delta: Delta
    finish: str | None


@dataclass(eq=False)
class Choice:
    """One of the n replies."""

    index: int
    job: Job
    generation: Generation
    parser: TurnParser
    finish: str | None = None
    ending: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0

    def take(self) -> list[Update]:
        """Read what has come; nothing, if nothing came of it. Raises EngineGone or EngineRefused."""
        if self.finish is not None:
            return []
        for token in self.generation.take():
            if self._read(token):
                break
        deltas = self.parser.take() or ([Delta()] if self.finish is not None else [])
        last = len(deltas) - 1
        return [
            Update(self.index, delta, self.finish if place == last else None)
            for place, delta in enumerate(deltas)
        ]

    def _read(self, token: Token) -> bool:
        """Take one token; true if it was the last one."""
        more = token.more or {}
        self.tokens += 1
        self.parser.feed(token.token_id, token.logprob, more.get("top", ()))
        if "end" in more:
            self.ending = more
            self.parser.finish()
        if self.parser.stopped:
            self.finish = "stop"
            self.generation.abort()
        elif "end" in more:
            self.finish = str(more["end"])
        if self.finish == "stop" and self.parser.num_calls:
            self.finish = "tool_calls"
        return self.finish is not None


class ReplyRoute:
    """What the endpoints that begin a reply have in common; each is one for a server."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._judge = Judge(service.limits)

    async def _read(
        self, model: type[Asked], request: Request, unserved: Mapping[str, tuple[Any, ...]] = UNSERVED
    ) -> Asked:
        """The request, unless nobody is let in. Raises ApiError."""
        self._service.admit(0)
        return checked(model, await read_json(request, self._service.limits), unserved)


class Reply:
    """The choices of one job or several, from submission to their end; those of the first job come first."""

    def __init__(self, service: Service, jobs: Sequence[Job], arrived: float) -> None:
        """Let in and submitted, or ApiError: 429, 503."""
        self.service, self.jobs, self.arrived = service, jobs, arrived
        self.choices: list[Choice] = []
        self._wake = asyncio.Event()
        self._deadline = arrived + service.limits.request_seconds
        self._patience = arrived + service.limits.queue_seconds
        self._closed = False
        service.admit(sum(job.n for job in jobs), sum(len(job.prompt_ids) for job in jobs))
        service.open_wakes.add(self._wake)
        for job in jobs:
            for sample in range(job.n):
                choice = Choice(len(self.choices), job, self._submit(job, sample), job.make_parser())
                self.choices.append(choice)

    def _submit(self, job: Job, sample: int) -> Generation:
        try:
            return self.service.link.submit(
                job.model.number,
                job.prompt_ids,
                job.params | {"seed": (job.seed + sample * _SEED_STRIDE) % 2**64},
                steering=job.steering,
                grammar=job.grammar,
                wake=self._wake,
            )
        except EngineGone as problem:
            self.close()
            raise unavailable(str(problem), problem.code, 3) from None

    def close(self) -> None:
        """Take whatever is still being written out of the engine; count what was written."""
        if self._closed:
            return
        self._closed = True
        self.service.open_wakes.discard(self._wake)
        if any(not choice.generation.ended for choice in self.choices):
            self.service.metrics.cancelled.add(1, self._phase())
        for choice in self.choices:
            choice.generation.abort()
        self._count()

    async def updates(self) -> AsyncIterator[list[Update]]:
        """What became certain, as it does. Ends when every choice has its finish; raises ApiError."""
        while any(choice.finish is None for choice in self.choices):
            self._wake.clear()
            try:
                found = [update for choice in self.choices for update in choice.take()]
            except EngineGone as problem:
                raise unavailable(str(problem), problem.code, 3) from None
            except EngineRefused as problem:
                raise invalid(
                    f"the request could not be carried out: {problem}", code="engine_refused"
                ) from None
            if found:
                yield found
            else:
                await self._sleep()

    async def _sleep(self) -> None:
        """Until something comes, but no longer than the request may take."""
        if self.service.draining:
            raise unavailable("the server is shutting down", "shutting_down")
        if any(choice.generation.fresh or choice.generation.problem for choice in self.choices):
            return
        started = any(choice.tokens for choice in self.choices)
        until = self._deadline if started else min(self._deadline, self._patience)
        timer = asyncio.get_running_loop().call_at(
            asyncio.get_running_loop().time() + until - time.monotonic(), self._wake.set
        )
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        if time.monotonic() >= until and not any(choice.generation.fresh for choice in self.choices):
            self._give_up(started)

    def _give_up(self, started: bool) -> None:
        limits = self.service.limits
        if started:
            raise unavailable(f"the reply took longer than {limits.request_seconds:g} s", "deadline_exceeded")
        self.service.metrics.shed.add(1, "deadline")
        absent = {job.model.name for job in self.jobs if not self.service.is_loaded(job.model)}
        why = "".join(f"; {name} is not in memory yet" for name in sorted(absent))
        raise unavailable(
            f"nothing could be begun within {limits.queue_seconds:g} s{why}", "queue_timeout", 10
        )

    def _phase(self) -> str:
        if not any(choice.tokens for choice in self.choices):
            return "queued"
        return "thinking" if all(choice.parser.region == "thinking" for choice in self.choices) else "answer"

    # ---- what it came to

    def usage(self) -> dict[str, Any]:
        """Tokens, as the API counts them: the prompt once, every token written, thinking among them."""
        written = sum(choice.tokens for choice in self.choices)
        prompt = sum(len(job.prompt_ids) for job in self.jobs)
        found = {id(job): 0 for job in self.jobs}
        for choice in self.choices:
            found[id(choice.job)] = max(found[id(choice.job)], int(choice.ending.get("cached", 0)))
        thinking = sum(choice.parser.thinking_tokens for choice in self.choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": sum(found.values())},
            "completion_tokens_details": {"reasoning_tokens": thinking},
        }

    def _count(self) -> None:
        metrics, now = self.service.metrics, time.monotonic()
        for job in self.jobs:
            metrics.prompt_tokens.add(len(job.prompt_ids))
            metrics.prompt_length.observe(len(job.prompt_ids))
        for choice in self.choices:
            metrics.tokens.add(choice.tokens)
            metrics.thinking_tokens.add(choice.parser.thinking_tokens)
            metrics.looked_up_tokens.add(len(choice.job.prompt_ids))
            metrics.cached_tokens.add(int(choice.ending.get("cached", 0)))
            first, seated = choice.generation.first_token, choice.generation.seated
            if first is not None:
                metrics.first_token.observe(first - self.arrived)
            if first is not None and seated is not None:
                metrics.queued.observe(seated - self.arrived)
                metrics.prefill.observe(first - seated)
            if choice.finish is None:
                continue
            metrics.success.add(1, choice.finish)
            metrics.length.observe(choice.tokens)
            metrics.whole.observe(now - self.arrived)
            if first is not None:
                metrics.decode.observe(now - first)
            if first is not None and choice.tokens > 1:
                metrics.between.observe((now - first) / (choice.tokens - 1))
            why = choice.ending.get("thought")
            if why not in (None, "itself"):
                metrics.thinking_cut.add(1, str(why))


async def answer_whole(reply: Reply, body: Coroutine[Any, Any, dict[str, Any]], request: Request) -> Response:
    """The answer of a reply that is waited for: its `body`, or an empty one that nobody reads where the client left."""
    try:
        whole = await unless_left(body, request.receive)
    finally:
        reply.close()
    return Response(status_code=499) if whole is None else JSONResponse(whole)
