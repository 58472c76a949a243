"""What the configurations of stages have in common.

A class's EXTENDABLE names the keys that may grow when a run is continued; every other difference makes it
another run. Nothing that reaches the weights may depend on the final number of steps of a class that lists it.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from farthing.config import Strict
from farthing.stages.config.foreign import FOREIGN

Dtype = Literal["auto", "float32", "bfloat16"]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[int, Field(ge=1)]
Betas = Annotated[tuple[Share, Share], Field(strict=False)]

SPEED = "How far a step moves each expert's correction bias towards an even load, in models that have them."
_DTYPE = "Type of the compute view; auto takes bfloat16 where the processor multiplies it in hardware."


class StageConfig(Strict):
    """The base of all stage configurations."""

    EXTENDABLE: ClassVar[frozenset[str]] = frozenset()
    FOREIGN: ClassVar[Mapping[str, tuple[str, ...]]] = FOREIGN

    @property
    def reads(self) -> list[str]:
        """The models of the run that the stage reads: "base", "final" or names of stages."""
        return []


class TaskMixConfig(StageConfig):
    """The key of stages that draw problems from the recipe's tasksets."""

    tasks: dict[str, Weight] = Field(
        default_factory=dict,
        description="Which of several tasksets, and how often each: whole numbers; all equally when not given.",
    )


class OnModelConfig(StageConfig):
    """The key of every stage that begins with a model of the run."""

    model: str = Field(
        "final",
        min_length=1,
        description='The model it works on: "base", "final" (the newest), or the stage that made it.',
    )

    @property
    def reads(self) -> list[str]:
        return [self.model]


class LoraTable(Strict):
    """The table `lora` of a stage: its names are PEFT's."""

    r: int = Field(16, ge=1, description="Rank of the adapters.")
    lora_alpha: float = Field(32.0, gt=0, description="What they add is scaled by lora_alpha / r.")
    target_modules: tuple[str, ...] | None = Field(
        None, strict=False, min_length=1, description="Projections that get one; all when not given."
    )
    experts: bool = Field(False, description="Whether routed experts get adapters too.")
    use_rslora: bool = Field(False, description="Scale by lora_alpha / sqrt(r) instead.")


class OptimizerConfig(StageConfig):
    """The keys that every stage with an optimizer has."""

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon: Muon for the hidden matrices and AdamW for the rest; adamw: AdamW for all.",
    )
    lr: float = Field(1e-3, gt=0, le=1, description="Learning rate of AdamW.")
    muon_lr: float = Field(2e-2, gt=0, le=1, description="Learning rate of Muon.")
    warmup_steps: int = Field(10, ge=0, description="Steps over which the learning rate rises from zero.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled weight decay.")
    betas: Betas = Field((0.9, 0.95), description="AdamW's two decay rates.")
    clip_norm: float = Field(1.0, gt=0, description="The gradient is scaled down to this norm.")
    microbatch_tokens: int = Field(1280, ge=1, description="Tokens that one forward and backward pass holds.")
    bias_update_speed: float = Field(0.0, ge=0, le=1, description=SPEED)
    dtype: Dtype = Field("auto", description=_DTYPE)
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="How many of the last checkpoints stay on disk.")


class LearningConfig(OptimizerConfig, OnModelConfig):
    """The keys of stages that go on learning with a model of the run."""

    lora: LoraTable | None = Field(
        None,
        description="Freeze the model, train adapters beside its weights, and leave those: [stage.lora], below.",
    )

    @model_validator(mode="after")
    def _frozen(self) -> Self:
        if self.lora is not None and self.bias_update_speed > 0:
            raise ValueError(
                "bias_update_speed moves what an adapter does not hold; delete it, or the table lora"
            )
        return self
