"""Strict configuration: TOML in, frozen typed objects out, and a clear line when that fails.

Everything a person writes goes through here, so that a misspelt key is never ignored and every complaint says
what, where, and what to type instead. Nothing here knows what a recipe is.
"""

import copy
import datetime
import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from farthing.errors import UserError


class Strict(BaseModel):
    """The base of every configuration: unknown keys refused, values never coerced between types, immutable.

    A whole number is accepted where a float is asked for; a string, a boolean or a float never becomes an
    integer. NaN and infinity are refused. FOREIGN: what other libraries call its keys.
    """

    FOREIGN: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )


Config = TypeVar("Config", bound=BaseModel)


def load_toml(path: str | Path, error: type[UserError] = UserError) -> dict[str, Any]:
    """The tables of a TOML file; raises `error` with one line for a missing, unreadable or malformed file."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise error(f"{path}: no such file{_similar_file(path)}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not UTF-8 text (byte {problem.start})") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise error(f"{path}: malformed TOML: {problem}") from None
    _refuse_dates(data, str(path), error)
    return data


def _similar_file(path: Path) -> str:
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    close = nearest(path.name, names)
    return f"; did you mean {folder / close}?" if close else ""


def _refuse_dates(value: Any, where: str, error: type[UserError]) -> None:
    """Dates are the one TOML type JSON lacks; run directories are JSON, and no setting needs a date."""
    if isinstance(value, datetime.date | datetime.time):
        raise error(f'{where}: a date is not a setting; write it as a string: "{value.isoformat()}"')
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _refuse_dates(item, f"{where}: {key}", error)


def apply_overrides(
    data: Mapping[str, Any], overrides: Iterable[str], error: type[UserError] = UserError
) -> dict[str, Any]:
    """A copy of `data` with each "a.b=value" set; values are TOML, bare words are strings."""
    result = copy.deepcopy(dict(data))
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise error(f"--set {override}: expected KEY=VALUE, for example --set grpo.steps=200")
        table = result
        for depth, part in enumerate(parts[:-1]):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise error(f"--set {override}: {'.'.join(parts[: depth + 1])} is a value, not a table")
        table[parts[-1]] = _override_value(text.strip(), override, error)
    return result


def _override_value(text: str, override: str, error: type[UserError]) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as problem:
        if text[:1] in tuple("[{\"'"):
            raise error(f"--set {override}: malformed value: {problem}") from None
        return text
    if set(parsed) != {"value"}:
        return text
    _refuse_dates(parsed["value"], f"--set {override}", error)
    return parsed["value"]


def parse(
    model: type[Config], data: Mapping[str, Any], where: str, error: type[UserError] = UserError
) -> Config:
    """`data` as an instance of `model`; raises `error` with one line: `where`, the key, the remedy."""
    try:
        return model.model_validate(dict(data))
    except ValidationError as problem:
        first = min(problem.errors(), key=lambda item: item["type"] != "extra_forbidden")
        raise error(f"{where}: {_explain(model, first)}") from None


def _explain(model: type[BaseModel], detail: ErrorDetails) -> str:
    """One pydantic complaint as words for a person."""
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return _unknown_key(key, _model_at(model, detail["loc"][:-1]))
    if detail["type"] == "missing":
        return f'missing key "{key}"'
    message = re.sub(r"^(Value error, |Input )", "", detail["msg"])
    if detail["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} = {_shown(detail['input'])}: {message}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_key(key: str, model: type[BaseModel] | None) -> str:
    """A key that the model lacks: what it is called here, where another library calls it so, else the nearest."""
    if model is None:
        return unknown(key, (), "key")
    meant = getattr(model, "FOREIGN", {}).get(key.rpartition(".")[2], ())
    ours = [name for name in meant if name in model.model_fields]
    if not ours:
        return unknown(key, model.model_fields, "key")
    words = " and ".join(f"{name} ({_described(model, name)})" for name in ours)
    return f'unknown key "{key}"; here it is {words}'


def _described(model: type[BaseModel], name: str) -> str:
    about = model.model_fields[name].description or ""
    return about[:1].lower() + about[1:].rstrip(".")


def _model_at(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel] | None:
    """The sub-model that `loc` leads to; None where that cannot be told."""
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else []
        if len(inner) != 1:
            return None
        model = inner[0]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None where nothing is close."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """The sentence for a name that is not among the known ones: the nearest, else the whole list."""
    known = list(known)
    close = nearest(name.rpartition(".")[2], known)
    if close:
        return f'unknown {what} "{name}"; did you mean "{close}"?'
    return f'unknown {what} "{name}"' + (f"; known: {', '.join(sorted(known))}" if known else "")


def fingerprint(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of `value`: key order does not matter, every digit does."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def to_toml(data: Mapping[str, Any]) -> str:
    """`data` as TOML that `tomllib` reads back equal; keys whose value is None are left out.

    Values are strings, booleans, integers, floats, lists and tables with string keys. Tables inside lists are
    written inline.
    """
    return "\n".join(_toml_table(data, ())).lstrip("\n") + "\n"


def _toml_table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {
        key: value for key, value in table.items() if not isinstance(value, Mapping) and value is not None
    }
    lines = [f"\n[{'.'.join(map(_toml_key, path))}]"] if path and (plain or not table) else []
    lines += [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _toml_table(value, (*path, key))
    return lines


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_string(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items() if item is not None)
        return "{" + ", ".join(pairs) + "}"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _toml_string(text: str) -> str:
    # JSON's escapes are TOML's, except that TOML also wants DEL escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
