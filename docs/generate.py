"""Write the parts of the documentation that the code knows best; tests/test_docs.py holds the pages to it.

    python docs/generate.py            rewrite what is out of date
    python docs/generate.py --check    exit code 1 if anything is

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; the rest of a page is written by hand.
"""

import dataclasses
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

from farthing import recipe
from farthing.algorithms.presets import PRESETS
from farthing.cli.main import COMMANDS, GROUPS
from farthing.config import to_toml
from farthing.server.protocol.limits import Limits
from farthing.stages.config.base import LoraTable
from farthing.stages.config.foreign import FOREIGN
from farthing.stages.config.guards import GuardConfig
from farthing.stages.config.sft import ConversationsConfig
from farthing.stages.kinds import KINDS

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
    # Inside Annotated the first declaration of an option sits where its default would be.
    given = [info.default, *(info.param_decls or ())]
    declared = " / ".join(name for name in given if isinstance(name, str) and name.startswith("-"))
    value = info.metavar or ("" if kind is bool else type_word(kind))
    shown = f"{declared} {value}".strip() if declared else info.metavar or parameter.name.upper()
    return f"`{shown}`", info.help or "", default_of_argument(parameter.default)


def default_of_argument(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    return "" if value is None or value is False else f"`{str(value).lower()}`"


def type_word(kind: Any) -> str:
    words = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
    options = [kind, *typing.get_args(kind)]
    return next((words[option] for option in options if option in words), "VALUE")


# ---- docs/recipes-reference.md


def recipe_tables() -> dict[str, type[BaseModel]]:
    """Each table a recipe may have, in the order of the page, with the class that reads it."""
    sections = {f"[{name}]": model for name, model in recipe.SECTIONS.items()}
    stages = {f'[stage], kind = "{name}"': kind.config for name, kind in KINDS.items()}
    nested = {
        "[stage.lora]": LoraTable,
        "[stage.guards]": GuardConfig,
        "Each entry of data": ConversationsConfig,
    }
    return {"At the top": recipe.Head, **sections, **stages, **nested}


def recipe_reference() -> str:
    return "\n" + "".join(config_section(title, model) for title, model in recipe_tables().items())


def config_section(title: str, model: type[BaseModel]) -> str:
    opening = r'^(\[\w+\]|kind = "\w+"): (.)'  # the class says what the heading says already
    about = re.sub(opening, lambda match: match[2].upper(), inspect.cleandoc(model.__doc__ or ""))
    grows = sorted(getattr(model, "EXTENDABLE", ()))
    if grows:
        about += f"\n\nA finished run goes on when this is raised: {', '.join(f'`{key}`' for key in grows)}."
    rows: list[tuple[object, ...]] = [
        (f"`{name}`", type_name(field.annotation), limits(field), default_of(field), field.description or "")
        for name, field in model.model_fields.items()
    ]
    return f"## {title}\n\n{about}\n\n{table(('key', 'type', 'limits', 'default', 'meaning'), rows)}\n"


def preset_reference() -> str:
    """What each `algorithm` of a grpo stage sets."""
    rows: list[tuple[object, ...]] = [
        (f"`{name}`", ", ".join(f"`{key} = {toml(value)}`" for key, value in preset.items()))
        for name, preset in PRESETS.items()
    ]
    return "\n" + table(("algorithm", "sets"), rows)


def foreign_reference() -> str:
    """What other libraries call each key, in the order in which the table has them."""
    called: dict[tuple[str, ...], list[str]] = {}
    for name, ours in FOREIGN.items():
        called.setdefault(ours, []).append(f"`{name}`")
    rows: list[tuple[object, ...]] = [
        (", ".join(f"`{key}`" for key in ours), ", ".join(names)) for ours, names in called.items()
    ]
    return "\n" + table(("here", "elsewhere"), rows)


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
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "table"
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
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if value is None or isinstance(value, BaseModel) else f"`{toml(value)}`"


def toml(value: Any) -> str:
    """A value as it is written in a recipe."""
    return to_toml({"x": [value]}).removeprefix("x = [").strip().removesuffix("]")


# ---- docs/serving.md


def serving_limits() -> str:
    """The limits of the server; a type's note says what it bounds."""
    notes = typing.get_type_hints(Limits, include_extras=True)
    rows: list[tuple[object, ...]] = [
        (typing.get_args(notes[field.name])[1], f"{field.default:,}") for field in dataclasses.fields(Limits)
    ]
    return "\n" + table(("at most", ""), rows)


def pages() -> dict[Path, str]:
    """Every page with generated parts, as it should read now."""
    parts = {
        DOCS / "cli.md": {"commands": command_reference()},
        DOCS / "recipes-reference.md": {
            "tables": recipe_reference(),
            "presets": preset_reference(),
            "foreign": foreign_reference(),
        },
        DOCS / "serving.md": {"limits": serving_limits()},
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
