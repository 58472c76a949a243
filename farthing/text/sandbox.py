"""Rendering a chat template: jinja2's immutable sandbox, with a meter (see `limits`) and a short list of filters.

What a template sees is what `transformers` shows it: the same options, `raise_exception`, `strftime_now`, loop
controls, `{% generation %}` blocks, JSON without HTML escapes. `strftime_now` tells a fixed day unless the caller
gives the time, because what reaches the weights must not depend on the clock.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from farthing.errors import CheckpointError, DataError
from farthing.text import bounded, limits
from farthing.text.limits import LimitExceeded, Limits

DAY = datetime.datetime(2024, 7, 26)
"""What templates are told is today: the day that Llama 3's own template falls back on."""


class TemplateRefusal(jinja2.TemplateError):
    """The template called `raise_exception`: it does not render this conversation."""


def render_template(
    source: str,
    variables: Mapping[str, Any],
    *,
    now: datetime.datetime = DAY,
    allowed: Limits | None = None,
) -> str:
    """The text of the template `source` with `variables`.

    Raises `DataError` if the template refuses or cannot take this conversation, `CheckpointError` if it is no valid
    template or asks for more than `allowed`.
    """
    template = compiled(source)
    try:
        with limits.metered(allowed or Limits()):
            return _collect(template, {"strftime_now": now.strftime, **variables})
    except TemplateRefusal as error:
        raise DataError(f"the chat template refuses this conversation: {error}") from error
    except LimitExceeded as error:
        raise CheckpointError(f"the chat template was stopped: {error}") from error
    except RecursionError as error:
        raise CheckpointError("the chat template was stopped: it calls itself without end") from error
    except Exception as error:  # a template is a program: it can fail with anything that Python can
        raise DataError(
            f"the chat template cannot render this conversation: {type(error).__name__}: {error}"
        ) from error


def _collect(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    pieces: list[str] = []
    size = 0
    for piece in template.generate(**variables):
        size += len(piece)
        limits.characters(size)
        limits.tick()
        pieces.append(piece)
    return "".join(pieces)


@lru_cache(maxsize=64)
def compiled(source: str) -> jinja2.Template:
    """The template, ready to render; compiled once."""
    try:
        return _ENVIRONMENT.from_string(source)
    except (jinja2.TemplateError, RecursionError) as error:
        raise CheckpointError(f"the chat template cannot be compiled: {error}") from error


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant wrote; the renderer finds that out by itself, for any template."""

    tags = {"generation"}  # noqa: RUF012  # the base class declares it so

    def parse(self, parser: jinja2.parser.Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with a meter in every loop, macro, call, concatenation and literal collection."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            body: list[nodes.Node] = block.body  # type: ignore[attr-defined]  # find_all knows only one of the three
            body.insert(0, nodes.ExprStmt(_checked("tick", []), lineno=block.lineno))
        _wrap_children(tree)
        return tree

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        bounded.check_binop(operator, left, right)
        return limits.weigh(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Any:
        # The base class asks this of every attribute, to hand out a tamed str.format; here there is none.
        bounded.check_attribute(value)
        return None

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Names as in the base class: keyword arguments of templates may be called anything.
        limits.tick()
        args = bounded.checked_arguments(__obj, args)
        return limits.weigh(super().call(__context, __obj, *args, **kwargs))


def _wrap_children(node: nodes.Node) -> None:
    """Replace, below `node`, every concatenation and every collection with changing entries by a checked one."""
    for name, value in node.iter_fields():
        if isinstance(value, list):
            setattr(
                node, name, [_wrapped(entry) if isinstance(entry, nodes.Node) else entry for entry in value]
            )
        elif isinstance(value, nodes.Node):
            setattr(node, name, _wrapped(value))


def _wrapped(node: nodes.Node) -> nodes.Node:
    _wrap_children(node)
    if isinstance(node, nodes.Concat):
        return _checked("concatenate", list(node.nodes), node.lineno)
    constant = all(isinstance(entry, nodes.Const) for entry in node.iter_child_nodes())
    grows = isinstance(node, (nodes.List, nodes.Dict)) or (
        isinstance(node, nodes.Tuple) and node.ctx == "load"
    )
    return _checked("weigh", [node], node.lineno) if grows and not constant else node


def _checked(name: str, arguments: list[Any], lineno: int = 1) -> nodes.Call:
    attribute = nodes.EnvironmentAttribute(f"farthing_{name}", lineno=lineno)
    return nodes.Call(attribute, arguments, [], None, None, lineno=lineno)


def _finalize(value: Any) -> Any:
    return limits.weigh(value)


def _refuse(message: str) -> NoReturn:
    raise TemplateRefusal(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    bounded.check_width(indent or 0)
    limits.weigh(value)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, jinja2.ext.loopcontrols],
        finalize=_finalize,
    )
    environment.filters = {
        name: bounded.FILTERS.get(name, environment.filters[name]) for name in bounded.ALLOWED_FILTERS
    }
    environment.filters["tojson"] = _tojson
    for name in ("lipsum", "cycler", "joiner"):
        del environment.globals[name]
    environment.globals["raise_exception"] = _refuse
    environment.extend(
        farthing_tick=limits.tick, farthing_weigh=limits.weigh, farthing_concatenate=bounded.concatenate
    )
    return environment


_ENVIRONMENT = _environment()
