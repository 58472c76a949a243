"""POST /v1/chat/completions, streamed and not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from farthing.server.openai.chat import Asked, prepare_chat
from farthing.server.openai.replies import Reply, ReplyRoute, answer_whole
from farthing.server.protocol.schema import ChatRequest
from farthing.server.protocol.shown import DONE, ChatView, dumps, frame, head
from farthing.server.protocol.sse import EventStream
from farthing.server.protocol.turn import Delta


class ChatRoute(ReplyRoute):
    """The endpoint."""

    async def __call__(self, request: Request) -> Any:
        arrived, service = time.monotonic(), self._service
        chat = await self._read(ChatRequest, request)
        asked = await prepare_chat(service, self._judge, chat)
        reply = Reply(service, [asked.job], arrived)
        if chat.stream:
            usage = bool(chat.stream_options and chat.stream_options.include_usage)
            frames = chat_frames(reply, asked, bool(chat.logprobs), usage)
            return EventStream(frames, reply.close, service.limits.keepalive_seconds)
        return await answer_whole(reply, whole_chat(reply, asked, bool(chat.logprobs)), request)


def _views(reply: Reply, asked: Asked, with_entries: bool) -> list[ChatView]:
    return [ChatView(asked.job.model, asked.wish, with_entries) for _ in reply.choices]


async def whole_chat(reply: Reply, asked: Asked, with_entries: bool) -> dict[str, Any]:
    """The body of a reply that is waited for."""
    views = _views(reply, asked, with_entries)
    async for updates in reply.updates():
        for update in updates:
            views[update.choice].add(update.delta)
    choices = [
        view.choice(choice.index, choice.finish or "stop")
        for view, choice in zip(views, reply.choices, strict=True)
    ]
    body = head("chat.completion", asked.job.model, "chatcmpl") | {"choices": choices, "usage": reply.usage()}
    return body | ({"warnings": asked.warnings} if asked.warnings else {})


async def chat_frames(
    reply: Reply, asked: Asked, with_entries: bool, with_usage: bool
) -> AsyncIterator[bytes]:
    """The events of a streamed reply: every choice's role first, then what is said, then each one's finish."""
    views = _views(reply, asked, with_entries)
    common = head("chat.completion.chunk", asked.job.model, "chatcmpl")
    tail: dict[str, Any] = {"usage": None} if with_usage else {}
    opening = [
        _choice(view_index, {"role": "assistant", "content": ""}, None, None)
        for view_index in range(len(views))
    ]
    warned = {"warnings": asked.warnings} if asked.warnings else {}
    yield frame(common | {"choices": opening} | tail | warned)
    # Everything in front of the choices is the same in every chunk; it is put into words once.
    before, behind = _around(common, tail)
    async for updates in reply.updates():
        out = b""
        for update in updates:
            for choice in _said(views[update.choice], update.choice, update.delta, update.finish):
                out += before + dumps(choice).encode() + behind
        if out:
            yield out
    if with_usage:
        yield frame(common | {"choices": [], "usage": reply.usage()})
    yield DONE


def _around(common: dict[str, Any], tail: dict[str, Any]) -> tuple[bytes, bytes]:
    text = dumps(common | {"choices": ["<choice>"]} | tail)
    before, _, behind = text.partition('"<choice>"')
    return f"data: {before}".encode(), f"{behind}\n\n".encode()


def _choice(index: int, delta: dict[str, Any], finish: str | None, logprobs: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _said(view: ChatView, index: int, delta: Delta, finish: str | None) -> list[dict[str, Any]]:
    """The choices of the chunks that an update becomes; the finish has one of its own."""
    fields, logprobs = view.fields(delta), view.logprobs(delta)
    noted = logprobs is not None and bool(logprobs["content"] or logprobs["reasoning"])
    out = [_choice(index, fields, None, logprobs)] if fields or noted else []
    if finish is not None:
        out.append(_choice(index, {}, finish, None))
    return out
