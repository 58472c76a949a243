"""Write the parts of the documentation that the code knows best; tests/test_docs.py holds the pages to it.

    python docs/generate.py            rewrite what is out of date
    python docs/generate.py --check    exit code 1 if anything is

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; the rest of a page is written by hand.
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from farthing.cli.main import COMMANDS, GROUPS
from farthing.stages import config as stages

DOCS = Path(__file__).resolve().parent


def fill(page: str, parts: dict[str, str]) -> str:
    """`page` with the text between each pair of markers replaced."""
    for name, text in parts.items():
        pattern = rf"(<!-- generated: {re.escape(name)} -->\n).*?(<!-- end -->)"
        page, found = re.subn(pattern, lambda match, text=text: match[1] + text + match[2], page, flags=re.S)
        if found != 1:
            raise SystemExit(f"expected one part marked {name!r}, found {found}")
    return page


def cell(text: object) -> str:
    """Text that survives inside a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell(item) for item in row)} |\n" for row in lines)


# ---- docs/cli.md


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, command in COMMANDS.items():
        yield f"farthing {name}", command
    for group, members in GROUPS.items():
        for name, command in members.items():
            yield f"farthing {group} {name}", command


def command_reference() -> str:
    parts = []
    for name, command in commands():
        rows = [argument(parameter) for parameter in signature(command)]
        usage = " ".join([name, *(shown for shown, _, default in rows if default == "required")])
        body = table(("argument", "meaning", "default"), rows) if rows else ""
        parts.append(f"## `{usage.replace('`', '')}`\n\n{inspect.getdoc(command)}\n\n{body}\n")
    return "\n" + "".join(parts)


def signature(command: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(command, eval_str=True).parameters.values())


def argument(parameter: inspect.Parameter) -> tuple[str, str, str]:
    """One row: how it is written, what it means, what happens without it."""
    kind, info = typing.get_args(parameter.annotation)[:2]
    required = parameter.default is inspect.Parameter.empty
    declared = " / ".join(info.param_decls or ())
    value = info.metavar or ("" if kind is bool else type_word(kind))
    shown = f"{declared} {value}".strip() if declared else info.metavar or parameter.name.upper()
    default = (
        "required" if required else "" if parameter.default in (None, False) else f"`{parameter.default}`"
    )
    return f"`{shown}`", info.help or "", default


def type_word(kind: Any) -> str:
    words = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
    options = [kind, *typing.get_args(kind)]
    return next((words[option] for option in options if option in words), "VALUE")


# ---- docs/recipes-reference.md


def recipe_reference() -> str:
    """Every configuration class of farthing.stages.config, in the order it is written there."""
    classes = [
        value
        for value in vars(stages).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == stages.__name__
    ]
    return "\n" + "".join(config_section(model) for model in classes)


def config_section(model: type[BaseModel]) -> str:
    rows = [
        (f"`{name}`", type_name(field.annotation), limits(field), default_of(field), field.description or "")
        for name, field in model.model_fields.items()
    ]
    body = table(("key", "type", "limits", "default", "meaning"), list(rows)) if rows else ""
    return f"## {model.__name__}\n\n{inspect.getdoc(model) or ''}\n\n{body}\n"


def type_name(annotation: Any) -> str:
    """A type as a person would write it: `int`, `"adamw" or "muon"`, `list of float`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f'`"{a}"`' if isinstance(a, str) else f"`{a}`" for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in arguments if a is not type(None))
    if origin in (list, tuple):
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return f"table of {type_name(arguments[1])}"
    return str(getattr(annotation, "__name__", annotation)).replace("Any", "any value")


_SYMBOLS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "max_length": "length ≤"}


def limits(field: FieldInfo) -> str:
    found = [
        f"{symbol} {getattr(item, name)}"
        for item in field.metadata
        for name, symbol in _SYMBOLS.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join(found)


def default_of(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "its own defaults"
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default!r}`"


def pages() -> dict[Path, str]:
    """Every page with generated parts, as it should read now."""
    parts = {
        DOCS / "cli.md": {"commands": command_reference()},
        DOCS / "recipes-reference.md": {"stages": recipe_reference()},
    }
    return {path: fill(path.read_text(encoding="utf-8"), found) for path, found in parts.items()}


def main() -> None:
    stale = {path: text for path, text in pages().items() if path.read_text(encoding="utf-8") != text}
    if "--check" in sys.argv[1:]:
        sys.exit("".join(f"{path}: out of date; make docs\n" for path in stale) or 0)
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
