"""Arguments that several commands share, so that one word means one thing everywhere."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from farthing.errors import UserError

ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model directory, or a run directory: then its final model.")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same output.")]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0.0, help="0 always takes the likeliest token.")
]
TaskName = Annotated[
    str | None, typer.Option("--task", help="The taskset; the one it was trained on, when not given.")
]
Problems = Annotated[int, typer.Option("--n", min=1, help="Held-out problems.")]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, help="As long as it was trained to, when not given.")
]
TaskSettings = Annotated[
    list[str] | None,
    typer.Option("--task-set", metavar="KEY=VALUE", help="A setting of the taskset; may be repeated."),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize",
        metavar="int8",
        help="Weights of 8 bits: a quarter of float32's memory, and faster where processors multiply them.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="End with one line of JSON on stdout, and nothing after it.")
]


def task_settings(items: Iterable[str] | None) -> dict[str, Any]:
    """["count=4", "prompt=full"] -> {"count": 4, "prompt": "full"}; values are TOML, bare words are strings."""
    from farthing.config import apply_overrides

    items = list(items or ())
    for item in items:
        key, equals, _ = item.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--task-set {item}: expected KEY=VALUE, for example --task-set count=4")
    return apply_overrides({}, items)


def checked_quantize(name: str | None) -> str | None:
    """The name of a quantisation there is; raises UserError for another."""
    if name not in (None, "int8"):
        raise UserError(f"--quantize {name}: there is int8")
    return name
