"""Whether to think and how long, in every spelling that clients use; and what that means for the engine.

request > model's default. Off wins over any effort or budget: {"thinking": {"type": "disabled"}},
reasoning_effort "none", enable_thinking false and chat_template_kwargs are the same wish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farthing.server.protocol.errors import invalid
from farthing.server.protocol.models import ServedModel, ThinkingStyle
from farthing.server.protocol.schema import ChatRequest
from farthing.server.protocol.turn import Region
from farthing.text.chat import Rendered

# The share of the tokens a reply may have that an effort grants to its thinking; None: no bound of its own.
EFFORT_SHARES: dict[str, float | None] = {
    "minimal": 0.1,
    "low": 0.25,
    "medium": 0.5,
    "high": 0.75,
    "xhigh": None,
    "max": None,
}
# Of the tokens a reply may have, what stays for an answer that must be complete.
_RESERVED_SHARE = 0.5


@dataclass(frozen=True)
class Wish:
    """What the request wants. `on`: None where it does not say. `shown`: the thinking is part of the reply.
    `separate`: in a field of its own."""

    on: bool | None = None
    effort: str | None = None
    budget: int | None = None
    shown: bool = True
    separate: bool = True


def wish_of(request: ChatRequest) -> Wish:
    """Every spelling read; raises ApiError where two of them contradict each other."""
    efforts = _agreed(
        "reasoning_effort",
        request.reasoning_effort,
        request.reasoning.effort if request.reasoning else None,
    )
    template = request.chat_template_kwargs
    switches = _agreed(
        "enable_thinking",
        request.enable_thinking,
        template.enable_thinking if template else None,
        template.thinking if template else None,
        request.thinking.type == "enabled" if request.thinking else None,
        request.reasoning.enabled if request.reasoning else None,
    )
    budget = _agreed(
        "thinking_token_budget",
        request.thinking_token_budget,
        request.thinking_budget,
        request.max_thinking_tokens,
        request.thinking.budget_tokens if request.thinking else None,
        request.reasoning.max_tokens if request.reasoning else None,
    )
    if switches is True and efforts == "none":
        raise invalid(
            "thinking is switched on and reasoning_effort is none: say one of them", "reasoning_effort"
        )
    on = False if efforts == "none" else True if efforts is not None and switches is None else switches
    excluded = request.reasoning.exclude if request.reasoning else None
    return Wish(
        on=on,
        effort=None if efforts == "none" else efforts,
        budget=budget,
        shown=request.include_reasoning is not False and not excluded,
        separate=request.separate_reasoning is not False,
    )


def _agreed(name: str, *values: Any) -> Any:
    """The one value that was given, in however many spellings."""
    given = [value for value in values if value is not None]
    if any(value != given[0] for value in given):
        raise invalid(f"{name} is given in several spellings that contradict each other", name)
    return given[0] if given else None


@dataclass(frozen=True)
class Plan:
    """The prompt as it goes to the engine, and where the turn begins. `spec`: the engine's `ThoughtRule`, or None.
    `behind`: the prompt ends with a thought that is over."""

    prompt_ids: list[int]
    start: Region
    behind: bool
    spec: dict[str, Any] | None


def plan_thinking(
    model: ServedModel, wish: Wish, rendered: Rendered, max_new_tokens: int, *, in_grammar: bool
) -> Plan:
    """What to do about thinking, from the state the rendered prompt ends in."""
    style, ids = model.thinking, list(rendered.ids)
    start = model.tags.start(rendered.prefill, ids)
    if style is None:
        return Plan(ids, start, behind=False, spec=None)
    is_open = start == "thinking"
    behind = not is_open and "</think>" in rendered.prefill
    if wish.on is False:
        if is_open:  # the template opens a thought whatever it is told: close it
            ids += [*style.closing, *style.behind]
        return Plan(ids, "text" if is_open else start, is_open or behind, _rule(style, forbid=True))
    budget = _budget(wish, max_new_tokens, in_grammar)
    force = in_grammar and not is_open and not behind and start == "text"
    return Plan(ids, start, behind, _rule(style, is_open=is_open, force_open=force, budget=budget))


def _budget(wish: Wish, max_new_tokens: int, in_grammar: bool) -> int | None:
    budget = wish.budget
    share = EFFORT_SHARES.get(wish.effort or "max")
    if budget is None and share is not None:
        budget = int(share * max_new_tokens)
    if in_grammar:
        budget = min(max_new_tokens if budget is None else budget, int(_RESERVED_SHARE * max_new_tokens))
    return budget


def _rule(style: ThinkingStyle, **changes: Any) -> dict[str, Any]:
    return {
        "open_id": style.open_id,
        "close_id": style.close_id,
        "closing": style.closing,
        "behind": style.behind,
        **changes,
    }
