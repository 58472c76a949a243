"""What the evaluation stage can be told."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from farthing.stages.config.base import OnModelConfig


class EvaluateConfig(OnModelConfig):
    """kind = "evaluate": pass@1 on many problems, pass@k and cons@k on fewer with more samples."""

    models: list[str] = Field(
        default_factory=list,
        description='Several models instead of the one; ["all"]: every model that the run has made by then.',
    )
    tasks: list[str] = Field(
        default_factory=list, description="Which of several tasksets; all of them when not given."
    )
    problems: int = Field(500, ge=1, description="Problems for pass@1.")
    samples: int = Field(4, ge=1, description="Samples for each of them.")
    vote_problems: int = Field(128, ge=0, description="Problems for pass@k and cons@k; 0 leaves them out.")
    vote_samples: int = Field(16, ge=1, description="Samples for each of them: the k.")
    temperature: float = Field(
        1.0, ge=0, le=5, description="Sampling temperature; 0 takes the likeliest token."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Only the likeliest tokens that hold this share are drawn from."
    )
    max_new_tokens: int = Field(256, ge=1, description="The longest completion, in tokens.")
    split: Literal["heldout", "train"] = Field("heldout", description="Which problems.")

    @property
    def reads(self) -> list[str]:
        return [] if self.models == ["all"] else self.models or [self.model]

    def named(self, made: Sequence[str], *, starts: bool) -> list[str]:
        """The models to evaluate, where `made` are those of the stages before, in their order; `starts`: the run began
        with a checkpoint, which then is a model of its own, "base"."""
        if self.models == ["all"]:
            return [*(["base"] if starts else []), *made]
        return self.models or [self.model]
