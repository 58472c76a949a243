"""What the chat page asks for: conversations, messages, replies. JSON over /api, behind the same gate as all else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from farthing.server.documents.asking import (
    marked,
    question_with,
    sources_for,
    sources_of,
    told_again,
)
from farthing.server.documents.store import Source, known
from farthing.server.openai.chat import prepare_chat
from farthing.server.pages.export import as_json, as_markdown, attachment
from farthing.server.pages.history import Absent, History, Record
from farthing.server.pages.importing import KeptConversation, renamed
from farthing.server.pages.trained import Trained, TrainedTasks
from farthing.server.pages.writing import Writers
from farthing.server.protocol.errors import invalid
from farthing.server.protocol.forms import Judge
from farthing.server.protocol.reading import checked, read_json
from farthing.server.protocol.schema import Budget, ChatRequest, Count, Effort, Seed
from farthing.server.protocol.sse import EventStream
from farthing.server.service import Service

LONGEST_TITLE = 200


class Strict(BaseModel):
    """The page is ours: a field that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Wishes(Strict):
    """How a conversation is to be answered. `beside`: a second model that the page asks the same."""

    model: str | None = None
    beside: str | None = None
    system: str = ""
    effort: Effort | None = None
    budget: Budget | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: Count | None = None


class TalkWishes(Wishes):
    """And the documents it is about, by their ids."""

    documents: list[str] = Field(default_factory=list)


class NewConversation(Strict):
    settings: TalkWishes = Field(default_factory=lambda: TalkWishes.model_validate({}))


class Change(Strict):
    title: str | None = Field(None, max_length=LONGEST_TITLE)
    settings: TalkWishes | None = None
    leaf: str | None = None


class NewMessage(Strict):
    """A person's turn; or, as `assistant`, a model's turn as a person would have it."""

    role: Literal["user", "assistant"] = "user"
    content: str = Field(min_length=1)
    thinking: str = ""
    parent: str | None = None


class NewReply(Strict):
    """To the message `parent`; or `goes_on` with a reply that was cut short.

    `model`: instead of the conversation's. `beside`: the message stays what is looked at, with this reply and others
    below it; a common `seed` lets them differ by their models alone.
    """

    parent: str | None = None
    goes_on: str | None = None
    model: str | None = None
    seed: Seed | None = None
    beside: bool = False


class Nothing(Strict):
    pass


class HistoryRoutes:
    """The handlers; one for a server."""

    def __init__(self, service: Service, history: History, writers: Writers) -> None:
        self._service, self._history, self._writers = service, history, writers
        self._judge = Judge(service.limits)
        self._tasks = TrainedTasks()

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        listed: list[tuple[str, str, Callable[[Request], Awaitable[Response | EventStream]]]] = [
            ("GET", "/api/conversations", self.listed),
            ("POST", "/api/conversations", self.begin),
            ("POST", "/api/imports", self.take_in),
            ("GET", "/api/conversations/{id}", self.conversation),
            ("PATCH", "/api/conversations/{id}", self.change),
            ("DELETE", "/api/conversations/{id}", self.remove),
            ("GET", "/api/conversations/{id}/export", self.export),
            ("POST", "/api/conversations/{id}/messages", self.add),
            ("POST", "/api/conversations/{id}/replies", self.reply),
            ("GET", "/api/replies/{id}/events", self.events),
            ("POST", "/api/replies/{id}/stop", self.stop),
            ("POST", "/api/replies/{id}/answer", self.answer_now),
            ("GET", "/api/examples", self.examples),
        ]
        return [Route(path, handler, methods=[method]) for method, path, handler in listed]

    async def _read(self, request: Request, model: type[Any]) -> Any:
        return checked(model, await read_json(request, self._service.limits))

    async def _whole(self, name: str) -> Record:
        found = await self._history.do(History.conversation, name)
        return found | {"messages": [self._writers.shown(message) for message in found["messages"]]}

    async def listed(self, request: Request) -> Response:
        """Every conversation, or those that hold what is searched for."""
        search = request.query_params.get("search", "")
        return JSONResponse({"conversations": await self._history.do(History.listed, search)})

    async def begin(self, request: Request) -> Response:
        wanted = await self._read(request, NewConversation)
        return JSONResponse(await self._history.do(History.begin, wanted.settings.model_dump()), 201)

    async def take_in(self, request: Request) -> Response:
        """A conversation that was exported as JSON, here or elsewhere."""
        kept = await self._read(request, KeptConversation)
        wishes = {name: value for name, value in kept.settings.items() if name in TalkWishes.model_fields}
        settings = checked(TalkWishes, wishes)
        messages, leaf = await asyncio.to_thread(renamed, kept)
        found = await self._history.do(
            History.take_in, kept.title, kept.created, settings.model_dump(), messages, leaf
        )
        return JSONResponse(found, 201)

    async def conversation(self, request: Request) -> Response:
        return JSONResponse(await self._whole(request.path_params["id"]))

    async def change(self, request: Request) -> Response:
        wanted = await self._read(request, Change)
        await self._history.do(History.change, request.path_params["id"], **wanted.model_dump())
        return JSONResponse(await self._whole(request.path_params["id"]))

    async def remove(self, request: Request) -> Response:
        name = request.path_params["id"]
        await self._writers.stop_all(name)
        await self._history.do(History.remove, name)
        return Response(status_code=204)

    async def export(self, request: Request) -> Response:
        """The whole conversation as a file: `form` json with every branch, or markdown with the one looked at."""
        form = request.query_params.get("form", "json")
        if form not in ("json", "markdown"):
            raise invalid("form: json or markdown", "form")
        found = await self._whole(request.path_params["id"])
        return (
            attachment(found, as_json(found), "json")
            if form == "json"
            else attachment(found, as_markdown(found), "md")
        )

    async def add(self, request: Request) -> Response:
        """A turn that a person wrote. 201 means that it is on the disk."""
        wanted, name = await self._read(request, NewMessage), request.path_params["id"]
        details: Record = {}
        if wanted.role == "assistant":
            await self._check_place(wanted.parent)
            details = {"edited": True, **await self._sources_beside(name, wanted)}
        elif wanted.thinking:
            raise invalid("thinking: only a model's turn has any", "thinking")
        message = await self._history.do(
            History.add,
            name,
            wanted.parent,
            wanted.role,
            wanted.content,
            thinking=wanted.thinking,
            finish="stop",
            details=details,
        )
        return JSONResponse(message, 201)

    async def _check_place(self, parent: str | None) -> None:
        """Raises ApiError unless a model's turn may stand below that message."""
        if parent is None or (await self._history.do(History.message, parent))["role"] != "user":
            raise invalid("parent: a model's turn stands below a person's", "parent")

    async def _sources_beside(self, name: str, wanted: NewMessage) -> Record:
        """The passages of the model's own answer to the same message, and whether the person's citations hold."""
        messages = (await self._history.do(History.conversation, name))["messages"]
        beside = (sources_of(one) for one in reversed(messages) if one["parent"] == wanted.parent)
        sources = next(filter(None, beside), [])
        if not sources:
            return {}
        marks = await asyncio.to_thread(marked, wanted.content, sources)
        return {"sources": [source.record() for source in sources], **marks}

    async def reply(self, request: Request) -> Response:
        """Have the model answer; the reply goes on whether or not anybody watches its events."""
        wanted, name = await self._read(request, NewReply), request.path_params["id"]
        self._service.admit(0)
        found = await self._whole(name)
        by_id = {message["id"]: message for message in found["messages"]}
        last = by_id.get(wanted.goes_on or wanted.parent or "")
        if last is None:
            raise Absent("there is no such message in this conversation")
        if last["role"] != ("assistant" if wanted.goes_on else "user") or last["finish"] is None:
            raise invalid("parent must be a person's message, goes_on a reply that has ended")
        path = branch(by_id, last["id"])
        settings = found["settings"] | ({"model": wanted.model} if wanted.model else {})
        trained = await self._tasks.of(self._service.model(settings["model"]))
        sources = await self._sources(settings, path, trained)
        asked_for = self._request(settings, path, trained, sources, wanted.seed)
        asked = await prepare_chat(self._service, self._judge, asked_for)
        goes_on = last if wanted.goes_on else None
        question = next(message for message in reversed(path) if message["role"] == "user")
        judge = partial(_judged, trained, question["content"], sources)
        begun = self._writers.begin(asked, last, goes_on, judge, sources, beside=wanted.beside)
        return JSONResponse(await begun, 201)

    async def _sources(
        self, settings: Record, messages: Sequence[Record], trained: Trained | None
    ) -> list[Source]:
        """The passages of documents that go with the last question; a reply that goes on keeps those it had."""
        kept = sources_of(messages[-1])
        if kept:
            return kept
        model = self._service.model(settings["model"])
        chosen = await self._history.do(known, settings.get("documents", []))
        if not chosen:
            return []
        if trained is not None:
            raise invalid(
                f"{model.name} knows one kind of problem and reads no documents: choose none, or another model",
                "documents",
            )
        questions = [message["content"] for message in messages if message["role"] == "user"]
        asking = partial(self._request, settings, messages, trained)
        return await sources_for(self._history, self._service.limits, model, chosen, questions, asking)

    def _request(
        self,
        settings: Record,
        messages: Sequence[Record],
        trained: Trained | None,
        sources: Sequence[Source],
        seed: int | None = None,
    ) -> ChatRequest:
        """The same request that a client of /v1/chat/completions would send; `sources` stand with the last question."""
        goes_on = messages[-1]["role"] == "assistant"
        told = [{"role": "system", "content": settings["system"]}] if settings["system"] else []
        said = [_told_again(message) for message in messages[: len(messages) - goes_on]]
        said += [_as_said(message) for message in messages[len(messages) - goes_on :]]
        last = max(n for n, message in enumerate(messages) if message["role"] == "user")
        said[last]["content"] = question_with(messages[last]["content"], sources)
        if trained is not None:  # it was trained to answer one message, not to keep a conversation
            told, said = [], [*trained.messages(messages[last]["content"]), *said[last + 1 :]]
        wishes = {
            "model": settings["model"], "messages": told + said, "stream": True, "continue_final_message": goes_on,
            "reasoning_effort": settings["effort"], "temperature": settings["temperature"],
            "max_completion_tokens": settings["max_tokens"], "thinking_token_budget": settings["budget"],
            "seed": seed,
        }  # fmt: skip
        return checked(ChatRequest, wishes)

    async def events(self, request: Request) -> EventStream:
        """The reply as it is written, from an offset on; the last event holds the whole message."""
        name = request.path_params["id"]
        await self._history.do(History.message, name)
        asked = request.headers.get("last-event-id") or request.query_params.get("offset", "0")
        if not (asked.isascii() and asked.isdigit() and len(asked) < 10):
            raise invalid("offset: a whole number", "offset")
        frames = self._writers.events(name, int(asked))
        return EventStream(frames, lambda: None, self._service.limits.keepalive_seconds)

    async def stop(self, request: Request) -> Response:
        """End a reply where it is."""
        await self._read(request, Nothing)
        await self._writers.stop(request.path_params["id"])
        return JSONResponse(
            self._writers.shown(await self._history.do(History.message, request.path_params["id"]))
        )

    async def answer_now(self, request: Request) -> Response:
        """End the thought of a reply; its answer follows."""
        await self._read(request, Nothing)
        await self._history.do(History.message, request.path_params["id"])
        self._writers.answer_now(request.path_params["id"])
        return JSONResponse({"status": "ok"}, 202)

    async def examples(self, request: Request) -> Response:
        """What a model that knows one kind of problem can be asked; nothing of any other model."""
        trained = await self._tasks.of(self._service.model(request.query_params.get("model")))
        if trained is None:
            return JSONResponse({"task": None, "examples": []})
        return JSONResponse({"task": trained.name, "examples": await trained.examples()})


async def _judged(
    trained: Trained | None,
    question: str,
    sources: Sequence[Source],
    thinking: str,
    content: str,
    finish: str,
) -> Record:
    """What is known of a reply once it has ended: whether it is right, and whether its citations hold."""
    verdict = await trained.judge(question, thinking, content) if trained and finish == "stop" else {}
    return verdict | await asyncio.to_thread(marked, content, sources)


def _told_again(message: Record) -> Record:
    """A message of the history in a later turn."""
    return _as_said(message | {"content": told_again(message)})


def _as_said(message: Record) -> Record:
    """A message of the history as a client would send it back."""
    out = {"role": message["role"], "content": message["content"]}
    return out | ({"reasoning_content": message["thinking"]} if message["thinking"] else {})


def branch(by_id: dict[str, Record], leaf: str) -> list[Record]:
    """The messages from the first one down to `leaf`."""
    path: list[Record] = []
    at: str | None = leaf
    while at is not None:
        path.append(by_id[at])
        at = by_id[at]["parent"]
    return path[::-1]
