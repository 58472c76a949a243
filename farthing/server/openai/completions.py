"""POST /v1/completions: text or token ids to go on from, raw; with `echo` and `logprobs` also a judge of given text.

Raw is raw: no template and no regions. Text never becomes a control token; who wants one sends its id.
Log-probabilities are those of the raw model at temperature 1, whatever the reply was drawn with.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request

from farthing.engine.grammar import from_regex
from farthing.server.openai.chat import (
    choices_of,
    reply_length,
    sampling_params,
    seed_of,
    steering_of,
    stops_of,
    unhurried,
)
from farthing.server.openai.replies import Choice, Job, Reply, ReplyRoute, answer_whole
from farthing.server.protocol.errors import invalid, unsupported
from farthing.server.protocol.forms import checked_regex
from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.reading import unknown_fields
from farthing.server.protocol.schema import CompletionRequest
from farthing.server.protocol.shown import DONE, frame, head, text_logprobs
from farthing.server.protocol.sse import EventStream
from farthing.server.protocol.turn import Entry, TurnParser

_DEFAULT_TOKENS = 16


class CompletionRoute(ReplyRoute):
    """The endpoint."""

    async def __call__(self, request: Request) -> Any:
        arrived, service = time.monotonic(), self._service
        asked = await self._read(CompletionRequest, request)
        model = service.model(asked.model)
        jobs = await self._jobs(model, asked)
        reply = Reply(service, jobs, arrived)
        view = View(model, asked)
        if asked.stream:
            return EventStream(view.frames(reply), reply.close, service.limits.keepalive_seconds)
        return await answer_whole(reply, view.whole(reply), request)

    async def _jobs(self, model: ServedModel, asked: CompletionRequest) -> list[Job]:
        """One for each prompt; raises ApiError 400."""
        limits = self._service.limits
        if asked.stream and asked.echo and asked.logprobs is not None:
            raise unsupported("echo", "echo with logprobs is not streamed: the prompt is judged as a whole")
        grammar = None if asked.regex is None else from_regex(checked_regex(asked.regex, limits))
        if grammar is not None:
            seconds = await self._judge.check(model, grammar, "regex")
            self._service.metrics.grammar_seconds.observe(seconds)
        n, stops, seed = choices_of(asked, limits), stops_of(asked, limits), seed_of(asked)
        prompts = await asyncio.to_thread(prompts_of, model, asked.prompt, limits.prompts, "prompt")
        if len(prompts) * n > limits.prompts:
            raise invalid(f"prompt: at most {limits.prompts} replies at once", "prompt")
        steering = steering_of(model, asked, limits)
        parser = partial(
            TurnParser,
            model.tokenizer,
            model.tags,
            stops=stops,
            stop_ids=model.stop_ids,
            plain=True,
            with_entries=asked.logprobs is not None,
        )
        jobs = []
        for ids in prompts:
            wanted = _DEFAULT_TOKENS if asked.max_tokens is None else max(asked.max_tokens, 1)
            longest = unhurried(model, asked, reply_length(model, len(ids), wanted), wanted, limits)
            params = sampling_params(model, asked, longest) | {
                "top_logprobs": asked.logprobs or 0,
                "prompt_logprobs": bool(asked.echo and asked.logprobs is not None),
            }
            jobs.append(Job(model, ids, params, seed, n, parser, steering, grammar))
        return jobs


def prompts_of(model: ServedModel, given: Any, most: int, field: str) -> list[list[int]]:
    """Every prompt as token ids; `given` is what `field` of a request may hold: a text, ids, or a list of either.

    Raises ApiError 400. Slow: call it in a thread.
    """
    several = isinstance(given, list) and (not given or not isinstance(given[0], int))
    found = list(given) if several else [given]
    if not 1 <= len(found) <= most:
        raise invalid(f"{field}: 1 to {most} at once", field)
    return [_ids(model, one, field) for one in found]


def _ids(model: ServedModel, prompt: str | list[int], field: str) -> list[int]:
    if isinstance(prompt, str):
        ids = [*model.tokenizer.start_ids, *model.tokenizer.encode(prompt)]
    else:
        ids = prompt
        if any(not 0 <= token < model.vocab_size for token in ids):
            raise invalid(f"{field}: token ids go from 0 to {model.vocab_size - 1}", field)
    if not ids:
        raise invalid(f"{field}: there must be something to read", field)
    return ids


@dataclass(frozen=True)
class View:
    """What the client of one request sees."""

    model: ServedModel
    asked: CompletionRequest

    async def whole(self, reply: Reply) -> dict[str, Any]:
        """The body of a reply that is waited for."""
        texts = ["" for _ in reply.choices]
        entries: list[list[Entry]] = [[] for _ in reply.choices]
        async for updates in reply.updates():
            for update in updates:
                texts[update.choice] += update.delta.content
                entries[update.choice] += update.delta.entries
        choices = [
            self._choice(choice, texts[choice.index], entries[choice.index]) for choice in reply.choices
        ]
        body = head("text_completion", self.model, "cmpl") | {"choices": choices, "usage": self._usage(reply)}
        warnings = [f"{name}: unknown, ignored" for name in unknown_fields(self.asked)]
        return body | ({"warnings": warnings} if warnings else {})

    def _choice(self, choice: Choice, text: str, entries: list[Entry]) -> dict[str, Any]:
        finish = choice.finish
        if self.asked.max_tokens == 0:
            text, entries, finish = "", [], "length"
        if self.asked.echo:
            text = self._echoed(choice) + text
            entries = prompt_entries(choice) + entries
        logprobs = None if self.asked.logprobs is None else text_logprobs(self.model, entries)
        return {"text": text, "index": choice.index, "logprobs": logprobs, "finish_reason": finish}

    def _echoed(self, choice: Choice) -> str:
        return self.model.tokenizer.decode(choice.job.prompt_ids, skip_special=True)

    def _usage(self, reply: Reply) -> dict[str, Any]:
        usage = reply.usage()
        del usage["completion_tokens_details"]
        if self.asked.max_tokens == 0:
            usage |= {"completion_tokens": 0, "total_tokens": usage["prompt_tokens"]}
        return usage

    async def frames(self, reply: Reply) -> AsyncIterator[bytes]:
        """The events of a streamed reply."""
        common = head("text_completion", self.model, "cmpl")
        with_usage = bool(self.asked.stream_options and self.asked.stream_options.include_usage)
        tail: dict[str, Any] = {"usage": None} if with_usage else {}
        offsets = [0] * len(reply.choices)

        def chunk(index: int, text: str, logprobs: Any, finish: str | None) -> bytes:
            choice = {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}
            return frame(common | {"choices": [choice]} | tail)

        if self.asked.echo:
            for choice in reply.choices:
                yield chunk(choice.index, self._echoed(choice), None, None)
        silent = self.asked.max_tokens == 0
        async for updates in reply.updates():
            for update in updates:
                delta, index = update.delta, update.choice
                if (delta.content or delta.entries) and not silent:
                    logprobs = None
                    if self.asked.logprobs is not None:
                        logprobs = text_logprobs(self.model, delta.entries, offsets[index])
                    offsets[index] += len(delta.content)
                    yield chunk(index, delta.content, logprobs, None)
                if update.finish is not None:
                    yield chunk(index, "", None, "length" if silent else update.finish)
        if with_usage:
            yield frame(common | {"choices": [], "usage": self._usage(reply)})
        yield DONE


def prompt_entries(choice: Choice) -> list[Entry]:
    """The prompt's tokens with their log-probabilities; the first one has none."""
    logprobs = [math.nan, *choice.ending.get("prompt", ())]
    tops = [(), *choice.ending.get("prompt_top", ())]
    tops += [()] * (len(logprobs) - len(tops))
    return [
        Entry(token, logprob, top)
        for token, logprob, top in zip(choice.job.prompt_ids, logprobs, tops, strict=False)
    ]
