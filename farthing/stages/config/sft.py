"""What the supervised fine-tuning stage can be told."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from farthing.config import Strict
from farthing.stages.config.base import LearningConfig, Share, Weight


class ConversationsConfig(Strict):
    """Where conversations come from: a JSONL file, or an earlier stage of the run that wrote one."""

    path: str | None = Field(None, description="A JSONL file.")
    stage: str | None = Field(None, description="The rejection stage that wrote one.")
    weight: Weight | None = Field(
        None, description="How often, beside the other files; all files or none have one. Without: as it is."
    )
    messages: str | None = Field(None, description="The column of the messages, if it is called otherwise.")
    prompt: str | None = Field(None, description="The column of the prompt, where there are no messages.")
    completion: str | None = Field(None, description="The column of the completion, likewise.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.path is None) == (self.stage is None):
            raise ValueError('give either path = "FILE.jsonl" or stage = "NAME"')
        if self.messages is not None and (self.prompt or self.completion):
            raise ValueError("give either messages or prompt and completion: a row has one form")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """The columns that were named: "messages", "prompt" or "completion" to what it is called."""
        named = {name: getattr(self, name) for name in ("messages", "prompt", "completion")}
        return {name: column for name, column in named.items() if column is not None}


class SftConfig(LearningConfig):
    """kind = "sft": supervised fine-tuning on conversations, with loss on what the assistant wrote."""

    data: list[ConversationsConfig] = Field(
        min_length=1, description='Where the conversations come from: [{path = "a.jsonl"}, {stage = "b"}].'
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="How often each conversation is learnt from; 2 when steps is not given either.",
    )
    steps: int | None = Field(None, ge=1, description="Optimizer steps, instead of epochs.")
    conversations_per_step: int = Field(32, ge=1, description="Conversations of one optimizer step.")
    heldout_share: Share = Field(
        0.05,
        description="Share of the questions, by a hash of their text, on which the loss is only measured.",
    )
    max_length: int | None = Field(
        None, ge=2, description="The longest conversation, in tokens; what the model can read when not given."
    )
    too_long: Literal["refuse", "drop"] = Field(
        "refuse",
        description="What happens to longer ones; how many were dropped stands in the model's farthing.json.",
    )
    lr: float = Field(5e-5, gt=0, le=1, description="Learning rate of AdamW.")
    final_lr_fraction: Share = Field(
        0.1, description="The learning rate falls along a cosine to this share of its peak."
    )
    eval_every: int = Field(50, ge=1, description="Steps between measurements of the held-out loss.")
    checkpoint_every: int = Field(50, ge=1, description="Steps between checkpoints.")

    @model_validator(mode="before")
    @classmethod
    def _how_long(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("epochs") is None and data.get("steps") is None:
            return {**data, "epochs": 2}  # DeepSeek-R1 took 2 to 3 (arXiv 2501.12948v2, B.4.2)
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give either epochs or steps: the one follows from the other")
        weighed = [entry.weight is not None for entry in self.data]
        if any(weighed) and not all(weighed):
            raise ValueError("data: give every entry a weight, or none")
        return self
