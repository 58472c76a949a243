"""Chat templates come with models, so they are somebody else's programs: rendered in jinja2's immutable sandbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from farthing.errors import CheckpointError, DataError

MAX_OUTPUT = 10_000_000


class TemplateRefusal(jinja2.TemplateError):
    """The template called `raise_exception`: it does not render this conversation."""


def render_template(source: str, variables: Mapping[str, Any]) -> str:
    """The text of `source` with `variables`. `DataError` if the template refuses the conversation."""
    template = _compiled(source)
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate(**variables):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_OUTPUT:
                raise CheckpointError(f"the chat template wrote more than {MAX_OUTPUT} characters; it was stopped")
    except TemplateRefusal as error:
        raise DataError(f"the chat template refuses this conversation: {error}") from error
    except jinja2.TemplateError as error:
        raise CheckpointError(f"the chat template failed: {error}") from error
    return "".join(pieces)


@lru_cache(maxsize=32)
def _compiled(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise CheckpointError(f"the chat template is not valid jinja: {error}") from error


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateRefusal(message)
