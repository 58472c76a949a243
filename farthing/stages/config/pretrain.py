"""What the pretraining stage can be told."""

from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from farthing.stages.config.base import OptimizerConfig


class PretrainConfig(OptimizerConfig):
    """kind = "pretrain": a base model from random weights."""

    steps: int = Field(
        1000, ge=1, description="Optimizer steps; the learning rate's decay is a part of them."
    )
    tokens_per_step: int = Field(8192, ge=1, description="Tokens of one optimizer step.")
    optimizer: Literal["adamw", "muon"] = Field(
        "muon", description="muon: Muon for the hidden matrices and AdamW for the rest; adamw: AdamW for all."
    )
    decay_fraction: float = Field(
        0.3, ge=0, le=1, description="The last part of the steps, in which the learning rate falls to zero."
    )
    corpus: dict[str, JsonValue] = Field(
        description='Where the text comes from: {source = "..."} and the settings of that source.'
    )
    heldout_documents: int = Field(200, ge=0, description="Documents kept apart to measure the loss on.")
    eval_every: int = Field(100, ge=1, description="Steps between measurements of the held-out loss.")

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if not isinstance(self.corpus.get("source"), str):
            raise ValueError(
                'corpus: missing key "source", for example corpus = {source = "countdown_student"}'
            )
        return self

    @property
    def source(self) -> str:
        """Name of the corpus source."""
        return str(self.corpus["source"])

    @property
    def source_settings(self) -> dict[str, Any]:
        """The settings of that source, still unchecked: the source knows them."""
        return {key: value for key, value in self.corpus.items() if key != "source"}
