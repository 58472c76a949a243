"""`farthing export`: a model written for others, and proved by reading it back."""

import json
from pathlib import Path
from typing import Annotated

import typer

from farthing.cli.inspect import final_model, size
from farthing.cli.options import AsJson


def export(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="A model or run directory, or the name of a model on the hub."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="The directory to write; an older model there is replaced.")
    ],
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="float32, bfloat16, float16 or fp8; every tensor keeps its own when not given."
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", help="A LoRA adapter (PEFT's format) to be merged in."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model in Hugging Face's layout.

    For transformers and vLLM. It is read back, and its logits and a greedy sample compared, before it takes its place.
    """
    from farthing.models.export import export as write

    report = write(final_model(source), target, dtype=dtype, adapter=adapter)
    if as_json:
        print(json.dumps({"path": str(target), **report}))
        return
    print(f"{target}: {report['tensors']} tensors, {size(report['bytes'])}, read back and found the same")
    if report["moved"]:
        print(f"rounding moved the logits by up to {report['moved']:.2%} of the largest")
