"""`farthing doctor`: whether a recipe can learn, before it costs anything."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farthing.cli.options import AsJson

if TYPE_CHECKING:
    from farthing.stages.preflight import Examination

STYLES = {"ok": "green", "warn": "yellow", "refuse": "bold red", "later": "dim"}


def doctor(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a TOML file.")],
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="A run of this recipe, to use the models it has made.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Instead of a recipe's value; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a recipe can learn, from one batch.

    The batch is sampled, rendered and scored, for every stage of reinforcement learning with the model it would begin
    with. Exit code 2 for one that cannot learn: all rewards equal, a reward out of reach, everything cut off, no end
    of a turn, a failing verifier.
    """
    from farthing.doctor import examine_recipe
    from farthing.errors import RecipeError

    examinations: list[Examination] = examine_recipe(recipe, overrides or [], run_dir)
    if as_json:
        print(json.dumps({"stages": [asdict(found) for found in examinations]}, ensure_ascii=False))
    else:
        for examination in examinations:
            show(examination, recipe)
    for examination in examinations:
        if examination.refusal is not None:
            raise RecipeError(f"[{examination.stage}] cannot learn: {examination.refusal.sentence}")


def show(examination: "Examination", recipe: Path) -> None:
    """The table, the prompt as the model reads it, and a paragraph for whatever is amiss."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from farthing.cli.typed import command

    console = Console(highlight=False)
    model = examination.model or f"no model yet ([{examination.waits_for}] makes it)"
    table = Table(title=f"[{examination.stage}] {model}".replace("[", r"\["), title_justify="left")
    for name in ("check", "measured", ""):
        table.add_column(name)
    for found in [found for found in examination.findings if found.verdict != "later"]:
        table.add_row(found.check, Text(found.measured), Text(found.verdict, STYLES[found.verdict]))
    console.print(table)
    if examination.prompt is not None:
        said = examination.prefill or ""
        console.print(
            Text.assemble(("prompt: ", "bold"), examination.prompt.removesuffix(said), (said, "reverse"))
        )
    for found in examination.findings:
        if found.sentence:
            verdict = Text(f"{found.verdict}: ", STYLES[found.verdict])
            console.print(
                Text.assemble(verdict, f"{found.check}: {found.sentence}.\n  Remedy: {found.remedy}.")
            )
    waiting = [found.check for found in examination.findings if found.verdict == "later"]
    if waiting:
        console.print(f"Not checked yet: {', '.join(waiting)}.", markup=False)
    if waiting and examination.model is None:
        console.print("They need the model. Run the recipe as far as you like, then type:", markup=False)
        console.print(f"  {command('doctor', recipe, '--run-dir', 'RUN')}", markup=False, soft_wrap=True)
