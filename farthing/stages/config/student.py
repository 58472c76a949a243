"""What the stage that brings in a second model can be told."""

from typing import Self

from pydantic import Field, JsonValue, model_validator

from farthing.config import parse
from farthing.errors import CheckpointError, RecipeError
from farthing.stages.config.base import StageConfig
from farthing.stages.sections import ModelSection


class StudentConfig(StageConfig):
    """kind = "student": a second model for the run: a checkpoint, or a new one from the seed."""

    path: str | None = Field(None, description="A model directory; it brings its own tokenizer.")
    shape: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="The shape of a new model, with the keys of [model]; its tokenizer is the run's.",
    )

    @model_validator(mode="after")
    def _path_or_shape(self) -> Self:
        if (self.path is None) == (not self.shape):
            raise ValueError("give either a path or a shape")
        if self.shape:
            try:
                self.section().shape(vocab_size=300)  # the real one is known when there is a tokenizer
            except (CheckpointError, RecipeError) as problem:
                raise ValueError(str(problem)) from None
        return self

    def section(self) -> ModelSection:
        """The shape as a [model] table; raises RecipeError."""
        section = parse(ModelSection, self.shape, "shape", RecipeError)
        if section.path is not None:
            raise RecipeError("shape: a path stands beside it, not in it")
        return section
