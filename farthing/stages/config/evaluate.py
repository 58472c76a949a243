"""What the evaluation stage can be told."""

from typing import Literal

from pydantic import Field

from farthing.stages.config.base import OnModelConfig


class EvaluateConfig(OnModelConfig):
    """kind = "evaluate": pass@1 on many problems, pass@k and cons@k on fewer with more samples."""

    problems: int = Field(500, ge=1, description="Problems for pass@1.")
    samples: int = Field(4, ge=1, description="Samples for each of them.")
    vote_problems: int = Field(128, ge=0, description="Problems for pass@k and cons@k; 0 leaves them out.")
    vote_samples: int = Field(16, ge=1, description="Samples for each of them: the k.")
    temperature: float = Field(
        1.0, ge=0, le=5, description="Sampling temperature; 0 takes the likeliest token."
    )
    max_new_tokens: int = Field(256, ge=1, description="The longest completion, in tokens.")
    split: Literal["heldout", "train"] = Field("heldout", description="Which problems.")
