"""`farthing new`: a first recipe for a checkpoint and a file of questions."""

from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is called; NAME.toml is written here.")
    ],
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="The model directory to start from.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="FILE.jsonl", help="Questions with answers, one object a line.")
    ],
    language: Annotated[
        str | None,
        typer.Option("--language", help="That of the questions, to be thought in: en, pt, es, zh."),
    ] = None,
    question: Annotated[str | None, typer.Option("--question", help="The column of the questions.")] = None,
    answer: Annotated[str | None, typer.Option("--answer", help="The column of the answers.")] = None,
) -> None:
    """Write a first recipe for your own questions.

    The columns, the kind of answers and the model's size are looked at; every line that is written says why.
    """
    from farthing.cli.typed import command
    from farthing.draft import draft
    from farthing.errors import UserError

    file = Path(f"{name}.toml")
    if file.exists():
        raise UserError(f"{file} is there already; choose another name or delete it")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f'a recipe cannot be called "{name}"; use letters, digits, _ and -')
    columns = {key: value for key, value in (("question", question), ("answer", answer)) if value is not None}
    file.write_text(draft(name, base, data, language, columns), encoding="utf-8")
    print(f"wrote {file}. Type next:")
    print(f"  {command('doctor', file)}   # whether it can learn")
    print(f"  {command('run', file)}      # carry it out")
