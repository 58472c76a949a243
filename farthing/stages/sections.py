"""The tables of a recipe that are not stages: what is learnt, by what model, at what price, shown where."""

from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from farthing.config import Strict


class TaskSection(Strict):
    """[task]: the taskset that is trained on and evaluated. Other keys are the taskset's own settings."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, description="Name of the taskset; `farthing tasks` lists them.")

    @property
    def settings(self) -> dict[str, Any]:
        """The taskset's own settings."""
        return dict(self.model_extra or {})


class ModelSection(Strict):
    """[model]: a checkpoint to start from (`path`), or the shape of a new model in Hugging Face's names."""

    path: str | None = Field(None, description="A model directory to start from; then no shape is given.")
    model_type: str = Field("qwen3", description="The family whose layout a new model has.")
    hidden_size: int | None = Field(None, ge=1, description="Width of the residual stream.")
    intermediate_size: int | None = Field(None, ge=1, description="Width of the feed-forward blocks.")
    num_hidden_layers: int | None = Field(None, ge=1, description="Number of blocks.")
    num_attention_heads: int | None = Field(None, ge=1, description="Number of query heads.")
    num_key_value_heads: int | None = Field(
        None, ge=1, description="Number of key and value heads; as many as query heads when not given."
    )
    head_dim: int | None = Field(
        None,
        ge=2,
        multiple_of=2,
        description="Width of a head; hidden_size / num_attention_heads when not given.",
    )
    max_position_embeddings: int = Field(1024, ge=8, description="The longest sequence, in tokens.")
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary embedding.")
    rms_norm_eps: float = Field(1e-6, gt=0, description="Added to the mean square in RMSNorm.")
    attention_bias: bool = Field(False, description="Bias on the query, key and value projections.")
    tie_word_embeddings: bool = Field(True, description="One matrix for embedding and output.")
    initializer_range: float = Field(0.02, gt=0, description="Standard deviation of the first weights.")

    SHAPE: ClassVar[tuple[str, ...]] = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )

    @model_validator(mode="after")
    def _path_or_shape(self) -> Self:
        given = [name for name in self.model_fields_set if name != "path" and getattr(self, name) is not None]
        if self.path is not None and given:
            raise ValueError(f"path brings its own {sorted(given)[0]}; give either a path or a shape")
        missing = [name for name in self.SHAPE if getattr(self, name) is None]
        if self.path is None and missing:
            raise ValueError(f'missing key "{missing[0]}" (or a path to start from)')
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        heads, pairs = self.num_attention_heads, self.num_key_value_heads
        if heads and pairs and heads % pairs:
            raise ValueError(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {pairs}")
        if heads and self.hidden_size and self.head_dim is None and self.hidden_size % (2 * heads):
            raise ValueError(f"hidden_size {self.hidden_size} does not give {heads} heads of even width")
        return self


class CostSection(Strict):
    """[cost]: what a core costs, so that everything has a price."""

    price_per_core_hour: float = Field(0.0, ge=0, description="Price of one core for one hour.")
    currency: str = Field("USD", min_length=1, max_length=8, description="What the price is in.")


class TrackSection(Strict):
    """[track]: where the metrics are shown beside metrics.jsonl."""

    sinks: list[Literal["tensorboard", "trackio", "wandb"]] = Field(
        default_factory=list,
        description='Trackers to write to; they come with `pip install "farthing[track]"`.',
    )
    project: str = Field(
        "farthing", min_length=1, description="The project that trackio and W&B file it under."
    )
