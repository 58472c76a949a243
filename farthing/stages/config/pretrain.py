"""What the pretraining stage can be told."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from farthing.stages.config.base import SPEED, OptimizerConfig


class PretrainConfig(OptimizerConfig):
    """kind = "pretrain": a base model from random weights, or from those that a stage has left."""

    model: str | None = Field(
        None,
        min_length=1,
        description="The stage whose model goes on learning; a new one of [model]'s shape if none.",
    )
    steps: int = Field(
        1000, ge=1, description="Optimizer steps; the learning rate's decay is a part of them."
    )
    tokens_per_step: int = Field(8192, ge=1, description="Tokens of one optimizer step.")
    microbatch_tokens: int = Field(6144, ge=1, description="Tokens that one forward and backward pass holds.")
    optimizer: Literal["adamw", "muon"] = Field(
        "muon", description="muon: Muon for the hidden matrices and AdamW for the rest; adamw: AdamW for all."
    )
    decay_fraction: float = Field(
        0.3, ge=0, le=1, description="The last part of the steps, in which the learning rate falls to zero."
    )
    bias_update_speed: float = Field(1e-3, ge=0, le=1, description=SPEED)
    mtp_loss_weight: float = Field(
        0.3,
        ge=0,
        description="Weight of the loss of MTP modules, in models that have them; 0 leaves them untrained.",
    )
    corpus: dict[str, JsonValue] = Field(
        description='Where the text comes from: {source = "..."} and the settings of that source, or a table of '
        "such tables, each with a weight."
    )
    heldout_documents: int = Field(200, ge=0, description="Documents kept apart to measure the loss on.")
    eval_every: int = Field(100, ge=1, description="Steps between measurements of the held-out loss.")

    @property
    def reads(self) -> list[str]:
        return [] if self.model is None else [self.model]

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        tables = [self.corpus] if "source" in self.corpus else [*self.corpus.values()]
        named = [isinstance(table, dict) and isinstance(table.get("source"), str) for table in tables]
        if not named or not all(named):
            raise ValueError(
                'corpus: missing key "source", for example corpus = {source = "countdown_student"}'
            )
        return self
