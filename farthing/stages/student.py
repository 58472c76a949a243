"""The student stage: a second model for the run, made of nothing or read from a directory."""

from __future__ import annotations

from farthing.errors import CheckpointError
from farthing.models.checkpoint import load_model
from farthing.models.decoder import Decoder, initialise
from farthing.stages.config.student import StudentConfig
from farthing.stages.context import Context


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
    return context.save_model(model, own)
