"""The student stage: a second model for the run, made of nothing or read from a directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farthing.errors import CheckpointError
from farthing.models.checkpoint import load_model
from farthing.models.decoder import Decoder, initialise
from farthing.stages.config.student import StudentConfig
from farthing.stages.context import Context
from farthing.stages.distill import check_same_tokens
from farthing.text.tokenizer import Tokenizer


def run(context: Context) -> dict[str, str]:
    """Random weights as a function of (shape, seed), or those of a checkpoint; writes model/."""
    config = context.of(StudentConfig)
    if config.path is None:
        tokenizer = context.load_tokenizer()
        model = initialise(Decoder(config.section().shape(tokenizer.vocab_size)), context.seed)
        return context.save_model(model, tokenizer)
    model, own = load_model(config.path)
    if own is None:
        raise CheckpointError(
            f"[{context.name}]: {config.path} has no tokenizer.json, so it cannot be asked anything"
        )
    check_teachers(context.recipe, context.name, context.models, own)
    return context.save_model(model, own)


def check_teachers(
    recipe: Mapping[str, Any], student: str, models: Mapping[str, Path], tokenizer: Tokenizer
) -> None:
    """Refuse before anything is spent what a later distill stage would refuse: a teacher, of those that are there by
    now, whose probabilities are about other tokens. Who is "final" by then is not known yet."""
    known = models.keys() - {"final"}
    for name in recipe["stages"]:
        table = recipe.get(name, {})
        if table.get("kind", name) != "distill" or table["teacher"] not in known:
            continue
        began = table["model"]
        while began != student and "model" in recipe.get(began, {}):
            began = recipe[began]["model"]
        if began == student:
            check_same_tokens(tokenizer, Tokenizer.load(models[table["teacher"]]), name, table["teacher"])
