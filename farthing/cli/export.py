"""`farthing export`: a model written for others, and proved by reading it back."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from farthing.cli.inspect import final_model, size
from farthing.cli.options import AsJson
from farthing.errors import UserError


def export(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="A model or run directory, or the name of a model on the hub."),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DST", help="The directory (with --gguf, the file) to write; an older one is replaced."
        ),
    ],
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            help="float32, bfloat16, float16 or fp8, with --gguf also q8_0; when not given every tensor keeps its "
            "own, and a GGUF file takes bfloat16.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option("--adapter", metavar="DIR", help="A LoRA adapter (PEFT's format) to be merged in."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="SRC is an adapter, or a run that ended with one: merge it in.")
    ] = False,
    gguf: Annotated[
        bool, typer.Option("--gguf", help="Write one GGUF file, for llama.cpp and Ollama (dense models).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model in Hugging Face's layout, or as a GGUF file.

    For transformers and vLLM, or llama.cpp and Ollama. It is read back and compared before it takes its place.
    """
    report = _write(final_model(source), target, dtype, adapter, merge, gguf)
    if as_json:
        print(json.dumps({"path": str(target), **report}))
        return
    print(f"{target}: {report['tensors']} tensors, {size(report['bytes'])}, read back and found the same")
    if report["moved"]:
        print(f"rounding moved the logits by up to {report['moved']:.2%} of the largest")


def _write(
    source: str, target: Path, dtype: str | None, adapter: Path | None, merge: bool, gguf: bool
) -> dict[str, Any]:
    if not gguf:
        from farthing.models.export import export as write

        return write(source, target, dtype=dtype, adapter=adapter, merge=merge)
    if adapter is not None or merge:
        raise UserError("--gguf writes a whole model: merge first, farthing export SRC MERGED --merge")
    if target.is_dir() or target.suffix != ".gguf":
        raise UserError(f"{target}: --gguf writes one file; call it {target.with_suffix('.gguf')}")
    from farthing.models.gguf_file import write_gguf

    return write_gguf(source, target, dtype or "bfloat16")
