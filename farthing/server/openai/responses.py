"""POST /v1/responses: a chat completion in other words. Nothing is stored, so each request brings its conversation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from farthing.server.openai.chat import Asked, prepare_chat
from farthing.server.openai.replies import Reply, ReplyRoute, answer_whole
from farthing.server.protocol.errors import ApiError
from farthing.server.protocol.items import ResponsesRequest, renamed, to_chat
from farthing.server.protocol.output import ResponseView, frames_of
from farthing.server.protocol.reading import unknown_fields
from farthing.server.protocol.schema import UNSERVED_RESPONSES
from farthing.server.protocol.shown import DONE
from farthing.server.protocol.sse import EventStream


class ResponsesRoute(ReplyRoute):
    """The endpoint."""

    async def __call__(self, request: Request) -> Any:
        arrived, service = time.monotonic(), self._service
        wanted = await self._read(ResponsesRequest, request, UNSERVED_RESPONSES)
        try:
            asked = await prepare_chat(service, self._judge, to_chat(wanted))
        except ApiError as error:
            raise renamed(error) from None
        reply = Reply(service, [asked.job], arrived)
        view = ResponseView(
            asked.job.model,
            _told(wanted, asked),
            shown=asked.wish.shown,
            with_logprobs=wanted.with_logprobs,
        )
        if wanted.stream:
            return EventStream(_frames(reply, view), reply.close, service.limits.keepalive_seconds)
        return await answer_whole(reply, _whole(reply, view), request)


async def _whole(reply: Reply, view: ResponseView) -> dict[str, Any]:
    """The body of a response that is waited for."""
    async for updates in reply.updates():
        for update in updates:
            view.add(update.delta)
    view.finish(reply.choices[0].finish or "stop", reply.usage())
    return view.response()


async def _frames(reply: Reply, view: ResponseView) -> AsyncIterator[bytes]:
    """The events of a streamed response; it ends with one that says how it ended."""
    yield frames_of(view.begin())
    try:
        async for updates in reply.updates():
            out = b"".join(frames_of(view.add(update.delta)) for update in updates)
            if out:
                yield out
        yield frames_of(view.finish(reply.choices[0].finish or "stop", reply.usage()))
    except ApiError as error:
        yield frames_of(view.fail(error))
    yield DONE


def _told(wanted: ResponsesRequest, asked: Asked) -> dict[str, Any]:
    """The fields of a response that repeat what was asked for, and say what held where nothing was."""
    sent = wanted.model_dump(mode="json", include={"tools", "tool_choice"})
    text = wanted.text.model_dump(mode="json", by_alias=True, exclude_unset=True) if wanted.text else {}
    extra = wanted.model_extra or {}
    reasoning = wanted.reasoning
    ignored = [f"{name}: unknown, ignored" for name in unknown_fields(wanted, UNSERVED_RESPONSES)]
    warnings = ignored + asked.warnings
    return {
        "instructions": wanted.instructions,
        "max_output_tokens": wanted.max_output_tokens,
        "max_tool_calls": wanted.max_tool_calls,
        "temperature": asked.job.params["temperature"],
        "top_p": asked.job.params["top_p"],
        "presence_penalty": wanted.presence_penalty or 0.0,
        "frequency_penalty": wanted.frequency_penalty or 0.0,
        "top_logprobs": wanted.top_logprobs or 0,
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
        "text": text | {"format": text.get("format") or {"type": "text"}},
        "tools": sent["tools"] or [],
        "tool_choice": sent["tool_choice"] or "auto",
        "parallel_tool_calls": wanted.parallel_tool_calls is not False,
        "metadata": wanted.metadata or {},
        "user": wanted.user,
        "truncation": "disabled",
        "store": False,
        "background": False,
        "previous_response_id": None,
        "service_tier": "default",
        "safety_identifier": extra.get("safety_identifier"),
        "prompt_cache_key": extra.get("prompt_cache_key"),
        **({"warnings": warnings} if warnings else {}),
    }
