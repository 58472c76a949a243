"""`farthing report`: one self-contained HTML file about a run."""

from pathlib import Path
from typing import Annotated

import typer

from farthing.cli.options import RunPath


def report(
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write it; RUN/report.html when not given.")
    ] = None,
) -> None:
    """Write the HTML report of a run.

    One self-contained file: curves, samples, evaluations, cost. Its path is printed.
    """
    from farthing.report.page import write_report

    print(write_report(run, out))
