"""Which characters of a rendered conversation the assistant wrote, for any template.

A turn is found by rendering the conversation once more with that turn's words replaced by one character that occurs
nowhere else: what both renderings begin with lies before the words, what both end with lies behind them. That alone
would count tags that the template opens for every turn (`<think>`) as not the assistant's; so the turn is said to begin
where the generation prompt stops agreeing with it, because the model is given the prompt and writes the rest. The end
token belongs to the turn: the model must learn to write it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from farthing.errors import FarthingError
from farthing.text.added import STRUCTURE
from farthing.text.segments import Page, Segment, common_prefix, common_suffix

Messages = Sequence[Mapping[str, Any]]
RenderPage = Callable[[Messages, bool], Page]
"""(messages, add_generation_prompt) -> the rendered text."""

_TAG = re.compile("|".join(map(re.escape, STRUCTURE)))


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) of a rendered text."""

    start: int
    end: int


class Rendering(NamedTuple):
    """A rendered conversation and how it came about.

    `stand_in`: a character found in neither the messages nor the template. `closing`: the token that ends a turn.
    """

    render: RenderPage
    messages: Messages
    add_generation_prompt: bool
    page: Page
    stand_in: str
    closing: int | None


def assistant_spans(rendering: Rendering) -> list[Span]:
    """The span of each assistant turn, in order."""
    spans: list[Span] = []
    for index, message in enumerate(rendering.messages):
        if message["role"] == "assistant":
            spans.append(_span(rendering, index, behind=spans[-1].end if spans else 0))
    return spans


def _span(rendering: Rendering, index: int, behind: int) -> Span:
    render, messages, page = rendering.render, rendering.messages, rendering.page
    masked = [*messages[:index], {"role": "assistant", "content": rendering.stand_in}, *messages[index + 1 :]]
    other = render(masked, rendering.add_generation_prompt)
    first = common_prefix(other, page)
    last = max(len(page.text) - common_suffix(other, page), first)
    start = _prompt_end(generation_prompt(render, messages[:index]), page, behind, first)
    return Span(start, _closed(page, last, rendering.closing))


def generation_prompt(render: RenderPage, messages: Messages) -> Page:
    """What the template adds for the assistant to go on from, tags that it opens included; empty if nothing."""
    if not messages:
        return Page("", ())
    with_prompt = render(messages, True)
    shared = common_prefix(render(messages, False), with_prompt)
    return _behind(with_prompt, shared)


def prefill(prompt: Page) -> str:
    """The part of a generation prompt that is already the assistant's: from its first structure tag on."""
    found = _TAG.search(prompt.text)
    return prompt.text[found.start() :] if found else ""


def _prompt_end(prompt: Page, page: Page, behind: int, first: int) -> int:
    """Where the prompt of a turn stops, given that the turn's words begin at `first` and the last turn ended at
    `behind`: the prompt's header is the last one before the words, and what follows it agrees for a while.
    """
    header = prompt.text[: len(prompt.text) - len(prefill(prompt))]
    at = page.text.rfind(header, behind, first) if header else -1
    if at < 0:
        return first
    return min(at + common_prefix(prompt, _behind(page, at)), first)


def _closed(page: Page, last: int, closing: int | None) -> int:
    """`last`, or the end of the closing token if only white space stands between."""
    for segment in page.segments:
        if segment.end <= last:
            continue
        if segment.token_id is not None:
            return segment.end if segment.token_id == closing else last
        if segment.text[max(last - segment.start, 0) :].strip():
            return last
    return last


def closing_token(render: RenderPage, stand_in: str) -> int | None:
    """The control token that follows the words of an assistant turn, found by rendering one; None if there is none."""
    exchange = [{"role": "user", "content": "a"}, {"role": "assistant", "content": stand_in}]
    try:
        page = render(exchange, False)
    except FarthingError:  # a template that wants more than one exchange
        return None
    at = page.text.rfind(stand_in)
    later = [segment for segment in page.segments if segment.start > at >= 0 and segment.token_id is not None]
    return later[0].token_id if later else None


def _behind(page: Page, at: int) -> Page:
    """The page from character `at` on; `at` never lies within a control token."""
    kept = [
        Segment(segment.text[max(at - segment.start, 0) :], segment.token_id, max(segment.start - at, 0))
        for segment in page.segments
        if segment.end > at
    ]
    return Page(page.text[at:], tuple(kept))
