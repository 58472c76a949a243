"""What the on-policy distillation stage can be told."""

from typing import ClassVar

from pydantic import Field

from farthing.stages.config.base import OptimizerConfig
from farthing.stages.config.sampling import GlanceConfig


class DistillConfig(OptimizerConfig, GlanceConfig):
    """kind = "distill": the student writes, and learns from the teacher's probabilities for every token of it."""

    EXTENDABLE: ClassVar[frozenset[str]] = frozenset({"steps"})

    model: str = Field(min_length=1, description='The student: "base", "final", or the stage that made it.')
    teacher: str = Field(
        "final", min_length=1, description="The teacher, likewise; it must have the student's tokenizer."
    )
    steps: int = Field(100, ge=1, description="Optimizer steps; a finished run goes on when it is raised.")
    samples_per_prompt: int = Field(1, ge=1, description="Completions sampled for each of them.")
    lr: float = Field(1e-4, gt=0, le=1, description="Learning rate of AdamW.")
    checkpoint_every: int = Field(25, ge=1, description="Steps between checkpoints.")

    @property
    def reads(self) -> list[str]:
        return [self.model, self.teacher]
