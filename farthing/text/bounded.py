"""Operations of templates whose result can be far larger than what they start from, checked before they run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from jinja2 import filters, pass_environment, pass_eval_context
from jinja2.environment import Environment
from jinja2.nodes import EvalContext

from farthing.text import limits
from farthing.text.limits import LimitExceeded

ALLOWED_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "indent"),
    *("int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr"),
    *("replace", "reverse", "round", "safe", "select", "selectattr", "sort", "string", "title", "trim"),
    *("unique", "upper"),
)

# Methods of strings that pad or fill to a width, or format by a language of their own.
_WIDENING = frozenset(
    {"center", "expandtabs", "format", "format_map", "ljust", "rjust", "translate", "zfill", "encode"}
)
_WIDE = re.compile(r"%[^a-zA-Z%]*(\d{4,}|\*)")
_WIDEST = 64


def check_width(width: int) -> None:
    """Refuse an indentation that no layout needs."""
    if width > _WIDEST:
        raise LimitExceeded(f"it indents by {width} characters; {_WIDEST} are allowed")


def check_binop(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation with too large a result."""
    if operator == "*":
        _check_repeat(left, right)
        _check_repeat(right, left)
        if isinstance(left, int) and isinstance(right, int):
            limits.bits(left.bit_length() + right.bit_length())
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        limits.bits(left.bit_length() * max(right, 0))
    elif operator == "+":
        if isinstance(left, str) and isinstance(right, str):
            limits.characters(len(left) + len(right))
        elif isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
            limits.entries(len(left) + len(right))
    elif operator == "%" and isinstance(left, str):
        if _WIDE.search(left):
            raise LimitExceeded("it formats with a width of thousands")
        limits.weigh(right)


def _check_repeat(value: Any, times: Any) -> None:
    if not isinstance(times, int):
        return
    if isinstance(value, str):
        limits.characters(len(value) * times)
    elif isinstance(value, (list, tuple)):
        limits.entries(len(value) * times)


def check_attribute(value: Any) -> None:
    """Refuse the methods of strings that pad, fill or format."""
    if isinstance(getattr(value, "__self__", None), str) and value.__name__ in _WIDENING:
        raise LimitExceeded(f"it uses str.{value.__name__}, which templates may not")


def checked_arguments(function: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments to call `function` with, unless it is a method of a string that would make too long a text."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, str) and arguments:
        name = getattr(function, "__name__", "")
        if name == "replace" and len(arguments) > 1:
            _check_replace(owner, str(arguments[0]), str(arguments[1]))
        if name == "join":
            parts = _list(arguments[0])
            _check_join(parts, owner)
            return (parts, *arguments[1:])
    return arguments


def _check_replace(text: str, old: str, new: str) -> None:
    limits.characters(len(text) + text.count(old) * max(len(new) - len(old), 0))


def _check_join(parts: list[Any], separator: str) -> None:
    limits.characters(sum(len(part) + len(separator) for part in parts if isinstance(part, str)))


def concatenate(*parts: Any) -> str:
    """The `~` of templates."""
    texts = [str(limits.weigh(part)) for part in parts]
    limits.characters(sum(map(len, texts)))
    return "".join(texts)


@pass_eval_context
def _replace(context: EvalContext, text: Any, old: Any, new: Any, count: int | None = None) -> str:
    _check_replace(str(limits.weigh(text)), str(old), str(new))
    return str(filters.do_replace(context, str(text), str(old), str(new), count))


@pass_eval_context
def _join(context: EvalContext, parts: Any, d: str = "", attribute: str | int | None = None) -> str:
    held = []
    for part in parts:
        limits.tick()
        held.append(part)
    limits.weigh(held)
    limits.characters(len(held) * len(str(d)))
    return str(filters.sync_do_join(context, held, str(d), attribute))


@pass_environment
def _string(environment: Environment, value: Any) -> str:
    return str(limits.weigh(value))


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    step = width if isinstance(width, int) else len(width)
    check_width(step)
    limits.characters(len(text) + step * (text.count("\n") + 1))
    return filters.do_indent(text, width, first, blank)


def _list(values: Any) -> list[Any]:
    held = []
    for value in values:
        limits.tick()
        held.append(value)
    weighed: list[Any] = limits.weigh(held)
    return weighed


FILTERS: dict[str, Callable[..., Any]] = {
    "indent": _indent,
    "join": _join,
    "list": _list,
    "replace": _replace,
    "string": _string,
}
"""Stand-ins for filters of jinja2, with the same meaning."""
