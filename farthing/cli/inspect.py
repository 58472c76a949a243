"""`farthing inspect`: what is in a model, and what is missing from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from farthing.cli.options import AsJson

Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model or run directory, a config.json alone, or the name of a model on the hub.",
    ),
]


def inspect(model: Source, as_json: AsJson = False) -> None:
    """Say what is in a model.

    Family, parameters, bytes, context, attention and its cache, tokenizer, and what is missing. From config.json alone,
    if need be.
    """
    from farthing.models.inspect import inspect as describe

    found = describe(final_model(model))
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for name, text in lines(found):
        print(f"{name:<12}{text}")


def final_model(model: str) -> str:
    """The final model of a run directory; anything else as it is."""
    from farthing.cli.models import model_directory

    path = Path(model)
    return str(model_directory(path)) if path.is_dir() else model


def lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(what, in words) for everything a person wants to know."""
    count = found["parameters"]
    yield "family", f"{found['family']} ({found['architecture']})"
    yield "parameters", ", ".join(_counts(count))
    yield "bytes", ", ".join(f"{size(number)} in {dtype}" for dtype, number in found["bytes"].items())
    yield (
        "shape",
        f"{found['layers']} layers of width {found['hidden_size']}, vocabulary {found['vocab_size']}",
    )
    yield "context", f"{found['context']} tokens, {_positions(found['rope'])}"
    attention = found["attention"]
    kept = (
        f"one latent of {attention['channels']}"
        if attention["kind"] == "latent"
        else f"{attention['key_heads']} key heads"
    )
    cache = size(attention["cache_bytes_per_token"])
    yield "attention", f"{attention['heads']} heads, {kept}; a token's cache is {cache} in bfloat16"
    if found["experts"]:
        experts = found["experts"]
        shared = f" and {experts['shared']} shared" if experts["shared"] else ""
        yield (
            "experts",
            f"{experts['per_token']} of {experts['routed']}{shared}, in {experts['layers']} layers",
        )
    if found["weights"]:
        stored = ", ".join(f"{size(number)} {dtype}" for dtype, number in found["weights"]["bytes"].items())
        yield "weights", f"{stored} in {found['weights']['files']} file(s)"
    if found["tokenizer"]:
        tokenizer = found["tokenizer"]
        template = "no chat template" if not tokenizer["template"] else "a chat template"
        thinking = " that knows thinking" if tokenizer["thinking"] else ""
        yield "tokenizer", f"{tokenizer['tokens']} tokens, {template}{thinking}"
    yield "missing", "; ".join(found["missing"]) or "nothing"


def _counts(count: dict[str, int]) -> Iterator[str]:
    yield amount(count["total"])
    if count["active"] != count["total"]:
        yield f"{amount(count['active'])} active per token"
    yield f"{amount(count['embedding'])} of them embedding"
    if count["mtp"]:
        yield f"and {amount(count['mtp'])} that predict further tokens"


def _positions(rope: dict[str, Any]) -> str:
    turned = f"rotary base {rope['theta']:g}"
    return (
        turned
        if rope["type"] == "default"
        else f"{turned}, {rope['type']} x {rope['factor']:g} from {rope['original']}"
    )


def amount(number: int) -> str:
    """671.026B, 0.656M, ..."""
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= limit / 10:
            return f"{number / limit:.3f}{letter}"
    return str(number)


def size(number: float) -> str:
    """Bytes in the unit that leaves at most four digits: 68.6 KiB, 1.25 TiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"
