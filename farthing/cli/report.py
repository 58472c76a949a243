"""`farthing report`: one self-contained HTML file about a run, and the pictures a README shows."""

from pathlib import Path
from typing import Annotated

import typer

from farthing.cli.options import RunPath


def report(
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write it; RUN/report.html when not given.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw held-out pass@1 over time, as an SVG file.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Also photograph the page, as a PNG file; takes a Chromium."),
    ] = None,
) -> None:
    """Write the HTML report of a run.

    One self-contained file: curves, samples, evaluations, cost. The path of each file written is printed.
    """
    from farthing.report.page import write_report

    page = write_report(run, out)
    print(page)
    if plot is not None:
        from farthing.report.plot import write_plot

        print(write_plot(run, plot))
    if picture is not None:
        from farthing.report.picture import write_picture

        print(write_picture(page, picture))
