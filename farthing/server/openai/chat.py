"""POST /v1/chat/completions: from a checked request to a job for the engine."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from farthing.server.openai.replies import Job
from farthing.server.protocol.conversation import prompt_of
from farthing.server.protocol.errors import ApiError, invalid
from farthing.server.protocol.forms import Judge, grammar_of, offered_tools
from farthing.server.protocol.limits import Limits
from farthing.server.protocol.models import ServedModel
from farthing.server.protocol.reading import unknown_fields
from farthing.server.protocol.schema import ChatRequest, Sampling
from farthing.server.protocol.thinking import Wish, plan_thinking, wish_of
from farthing.server.protocol.turn import TurnParser
from farthing.server.service import Service


@dataclass(frozen=True)
class Asked:
    """A chat request made ready: the job, what of it is shown, and what to warn of."""

    job: Job
    wish: Wish
    warnings: list[str]


async def prepare_chat(service: Service, judge: Judge, request: ChatRequest) -> Asked:
    """Check everything that can be checked, render, and put the job together. Raises ApiError."""
    limits, model = service.limits, service.model(request.model)
    if len(request.messages) > limits.messages:
        raise invalid(f"messages: at most {limits.messages}", "messages")
    if request.top_logprobs is not None and not request.logprobs:
        raise invalid("top_logprobs needs logprobs: true", "top_logprobs")
    n, stops = choices_of(request, limits), stops_of(request, limits)
    wish, tools = wish_of(request), offered_tools(model, request, limits)
    grammar = grammar_of(model, request, tools, limits)
    if grammar is not None:
        service.metrics.grammar_seconds.observe(await judge.check(model, grammar, _form_param(request)))
    rendered = await asyncio.to_thread(prompt_of, model, request, tools, wish.on is not False)
    asked = _agreed_length(request)
    longest = reply_length(model, len(rendered.ids), asked)
    plan = plan_thinking(model, wish, rendered, longest, in_grammar=grammar is not None)
    longest = reply_length(model, len(plan.prompt_ids), asked)
    longest = unhurried(model, request, longest, asked, limits)
    tags = model.tags if tools else replace(model.tags, call=None, call_end=None)
    parser = partial(
        TurnParser,
        model.tokenizer,
        tags,
        start=plan.start,
        behind_thinking=plan.behind,
        goes_on=bool(request.continue_final_message),
        stops=stops,
        stop_ids=model.stop_ids,
        with_entries=bool(request.logprobs),
    )
    params = sampling_params(model, request, longest) | {"top_logprobs": request.top_logprobs or 0}
    steering = steering_of(model, request, limits) | {"thought": plan.spec}
    job = Job(model, plan.prompt_ids, params, seed_of(request), n, parser, steering, grammar)
    return Asked(job, wish, _warnings(model, request, wish, params))


def _form_param(request: ChatRequest) -> str:
    if request.tools:
        return "tools"
    return "regex" if request.regex is not None else "response_format"


def _agreed_length(request: ChatRequest) -> int | None:
    if None not in (request.max_tokens, request.max_completion_tokens) and (
        request.max_tokens != request.max_completion_tokens
    ):
        raise invalid("max_tokens and max_completion_tokens contradict each other", "max_tokens")
    return request.max_completion_tokens or request.max_tokens


def choices_of(request: Sampling, limits: Limits) -> int:
    """How many replies are wanted."""
    n = request.n or 1
    if n > limits.choices:
        raise invalid(f"n: at most {limits.choices} here", "n")
    return n


def stops_of(request: Sampling, limits: Limits) -> list[str]:
    """The stop strings; an empty one would stop everything before it begins."""
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stops) > limits.stop_strings:
        raise invalid(f"stop: at most {limits.stop_strings} strings", "stop")
    for stop in stops:
        if not stop or len(stop.encode()) > limits.stop_bytes:
            raise invalid(f"stop: strings of 1 to {limits.stop_bytes} bytes", "stop")
    return list(stops)


def seed_of(request: Sampling) -> int:
    """The seed asked for, or one that nobody has used."""
    return secrets.randbits(63) if request.seed is None else request.seed % 2**64


def reply_length(model: ServedModel, prompt_tokens: int, asked: int | None) -> int:
    """How many tokens may follow. Raises ApiError 400 where that does not fit: nothing is ever cut silently."""
    room = model.context - prompt_tokens
    if room < 1 or (asked is not None and asked > room):
        wanted = "" if asked is None else f" and {asked} tokens are asked for"
        raise ApiError(
            400,
            f"the prompt has {prompt_tokens} tokens{wanted}; the context of {model.name} is {model.context}",
            "context_length_exceeded",
            param="messages" if room < 1 else "max_tokens",
        )
    return min(asked or model.defaults.max_new_tokens or room, room)


def unhurried(model: ServedModel, request: Sampling, longest: int, asked: int | None, limits: Limits) -> int:
    """`longest`, or what can be written before clients that wait for the whole reply give up and ask again.

    Raises ApiError 400 where more was asked for explicitly.
    """
    speed = model.facts.get("speed") or {}
    slowest = min((rate for name, rate in speed.items() if name.startswith("decode")), default=0.0)
    fits = max(1, int(slowest * limits.unstreamed_seconds))
    if request.stream or not slowest or longest <= fits:
        return longest
    if asked is None:
        return fits
    raise invalid(
        f"{longest} tokens may take longer here than clients wait ({limits.unstreamed_seconds:g} s): "
        f"ask for at most {fits}, or stream",
        "max_tokens",
    )


def sampling_params(model: ServedModel, request: Sampling, longest: int) -> dict[str, Any]:
    """The engine's SamplingParams, without seed and stop tokens."""
    defaults = model.defaults
    temperature = defaults.temperature if request.temperature is None else request.temperature
    top_k = defaults.top_k if request.top_k is None else max(request.top_k, 0)
    return {
        "max_new_tokens": longest,
        "temperature": temperature,
        "top_p": defaults.top_p if request.top_p is None else request.top_p,
        "top_k": min(top_k, model.vocab_size),
    }


def steering_of(model: ServedModel, request: Sampling, limits: Limits) -> dict[str, Any]:
    """Biases and penalties, checked."""
    biases = request.logit_bias or {}
    if len(biases) > limits.logit_bias:
        raise invalid(f"logit_bias: at most {limits.logit_bias} tokens", "logit_bias")
    rows: list[tuple[int, float]] = []
    for name, value in biases.items():
        if not (name.isascii() and name.isdigit()) or int(name[:12]) >= model.vocab_size or len(name) > 12:
            raise invalid(f"logit_bias: {name[:20]!r} is not the id of a token", "logit_bias")
        if not -100 <= value <= 100:
            raise invalid(f"logit_bias: {value:g} is not between -100 and 100", "logit_bias")
        rows.append((int(name), value))
    return {
        "bias": rows,
        "presence": request.presence_penalty or 0.0,
        "frequency": request.frequency_penalty or 0.0,
    }


def _warnings(model: ServedModel, request: ChatRequest, wish: Wish, params: dict[str, Any]) -> list[str]:
    warnings = [f"{name}: unknown, ignored" for name in unknown_fields(request)]
    thinks = model.thinking is not None and wish.on is not False
    if thinks and params["temperature"] == 0:
        warnings.append("temperature: thinking without chance tends to go in circles; 0.6 is a better value")
    if model.thinking is None and (wish.on or wish.budget is not None or wish.effort is not None):
        warnings.append(f"reasoning: {model.name} does not think")
    return warnings
