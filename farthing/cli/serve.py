"""`farthing serve`: an OpenAI-compatible server around one model or several."""

import os
from pathlib import Path
from typing import Annotated

import typer

from farthing.cli.options import Quantize, checked_quantize

Conversations = Annotated[
    Path | None,
    typer.Option(
        "--conversations",
        metavar="FILE",
        help="Where the chat page keeps them; a file of yours under ~/.local/share when not given.",
    ),
]

AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host", metavar="NAME", help="Another name this server is reached by; may be repeated."
    ),
]

AllowOrigin = Annotated[
    list[str] | None,
    typer.Option("--allow-origin", metavar="ORIGIN", help="A page elsewhere that may ask; may be repeated."),
]

KeepAlive = Annotated[
    float | None,
    typer.Option(
        "--keep-alive",
        min=0,
        metavar="SECONDS",
        help="An idle model leaves memory after so long; inf: never. Not given: never for an only model, "
        "300 for several.",
    ),
]


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Model or run directories; NAME=DIR gives one a name. The first is the default.",
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Where to listen. An address others can reach needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="Keys that open the server, one a line."),
    ] = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    context: Annotated[
        int | None,
        typer.Option("--context", min=64, help="Tokens of a conversation; as many as fit when not given."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="As many as there are cores to use, when not given."),
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32 or bfloat16.")] = "auto",
    quantize: Quantize = None,
    max_running: Annotated[
        int | None, typer.Option("--max-running", min=1, help="Replies written at once; others wait.")
    ] = None,
    keep_alive: KeepAlive = None,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", metavar="DIR", help="Show the runs in this directory, live, at /runs."),
    ] = None,
    conversations: Conversations = None,
) -> None:
    """Serve models to people (a page) and programs (an API).

    The first model is loaded at the start, others at their first request; `farthing ps` says which are in memory,
    `farthing stop` has one leave it. The API is OpenAI's. One process answers requests, another computes; if that
    one dies or stands still, it is started again. Ctrl-C ends both.
    """
    from farthing.cli.models import model_directory
    from farthing.errors import UserError
    from farthing.server.serve import Settings, serve

    if keep_alive is not None and keep_alive != keep_alive:
        raise UserError("--keep-alive nan: a number of seconds, or inf for never")
    if dtype not in ("auto", "float32", "bfloat16"):
        raise UserError(f"--dtype {dtype}: choose auto, float32 or bfloat16")
    named = [_named(text) for text in models]
    serve(
        Settings(
            models=[(name, model_directory(path)) for name, path in named],
            host=host,
            port=port,
            api_key_file=api_key_file,
            allowed_hosts=allow_host or (),
            allowed_origins=allow_origin or (),
            context=context,
            threads=threads,
            dtype=dtype,
            quantize=checked_quantize(quantize),
            running=max_running,
            runs=runs,
            keep_alive=keep_alive,
            conversations=conversations or own_file(),
        )
    )


def own_file() -> Path:
    """Where conversations are kept when nobody says: by the rules of the XDG base directories."""
    named = os.environ.get("XDG_DATA_HOME", "")
    home = Path(named) if Path(named).is_absolute() else Path.home() / ".local" / "share"
    return home / "farthing" / "conversations.sqlite"


def _named(text: str) -> tuple[str | None, Path]:
    """ "tiny=runs/a/model" -> ("tiny", runs/a/model); a directory with = in its name stays one."""
    name, equals, path = text.partition("=")
    if equals and name and not Path(text).exists():
        return name, Path(path)
    return None, Path(text)
