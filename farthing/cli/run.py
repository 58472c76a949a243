"""`farthing run`: carry out a recipe; run again after any interruption and it goes on exactly where it was."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a TOML file.")],
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir", help="Where everything is kept; runs/NAME-OF-THE-RECIPE-FILE when not given."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Instead of the recipe's seed.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Instead of a recipe's value; may be repeated."),
    ] = None,
) -> None:
    """Carry out a recipe, or go on with it.

    Stage by stage, into a run directory. After any interruption the same command goes on exactly where it was; after
    the end it does too, if the recipe now asks for more steps.
    """
    from farthing.cli.live import live_view
    from farthing.cli.summary import print_summary
    from farthing.cli.typed import same_command
    from farthing.pipeline import run_recipe

    directory = run_dir or Path("runs") / recipe.stem
    try:
        with live_view() as sinks:
            summary = run_recipe(recipe, directory, seed=seed, overrides=overrides or [], sinks=sinks)
    except KeyboardInterrupt:
        print(f"farthing: interrupted; the same command goes on: {same_command()}", file=sys.stderr)
        raise typer.Exit(130) from None
    print_summary(summary, directory)
