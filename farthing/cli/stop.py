"""`farthing stop`: have a model leave a running server's memory."""

from typing import Annotated
from urllib.parse import quote

import typer

from farthing.cli.asking import HERE, PATIENCE, KeyFile, Url, ask


def stop(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Its name, as farthing ps shows it.")],
    url: Url = HERE,
    api_key_file: KeyFile = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0, max=600, help="Seconds to wait for replies being written.")
    ] = 30.0,
) -> None:
    """Take a model out of a running server's memory.

    What it is writing is written to its end. The next request for it loads it again. To end the server itself, press
    Ctrl-C where it runs.
    """
    path = f"/api/models/{quote(model, safe='')}/unload"
    found = ask(url, api_key_file, "POST", path, {"wait_seconds": wait}, patience=wait + PATIENCE)
    if found["state"] == "unloaded":
        print(f"{model} is not in memory any more; the next request for it loads it again")
        return
    busy = found["running"] + found["waiting"]
    print(
        f"{model} is still at work ({busy} {'reply' if busy == 1 else 'replies'}); it leaves memory after that"
    )
