"""What the rejection sampling stage can be told."""

from typing import Literal

from pydantic import Field

from farthing.stages.config.base import Share
from farthing.stages.config.sampling import SamplingConfig

FilterName = Literal["verified", "finished", "closed_thinking", "one_language", "no_repetition", "length"]
EVERY_FILTER: list[FilterName] = [
    "verified", "finished", "closed_thinking", "one_language", "no_repetition", "length",
]  # fmt: skip


class RejectionConfig(SamplingConfig):
    """kind = "rejection": conversations to learn from, sampled from a model and kept where they are right and readable.

    Written to conversations.jsonl, which the `data` of a later sft stage names by this stage's name.
    """

    problems: int = Field(512, ge=1, description="Training problems that are asked, from the first.")
    filters: list[FilterName] = Field(
        default=EVERY_FILTER,
        description="What a sample must pass, in this order; docs/stages.md says what each asks.",
    )
    least_language: Share = Field(0.9, description="one_language: the share of the thinking in its language.")
    most_repetition: Share = Field(0.5, description="no_repetition: the share of 4-grams that came before.")
    min_tokens: int = Field(1, ge=1, description="length: the shortest completion, in tokens.")
    max_tokens: int | None = Field(
        None, ge=1, description="length: the longest; max_new_tokens when not given."
    )
    keep_per_prompt: int = Field(1, ge=1, description="At most so many samples of a problem are kept.")
    prefer: Literal["shortest", "longest", "first"] = Field(
        "shortest", description="Which of equally right samples are kept."
    )
    without_thinking: Share = Field(
        0.0, description="Share of the kept samples that are written a second time without their thinking."
    )
