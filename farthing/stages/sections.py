"""The tables of a recipe that are not stages: what is learnt, by what model, at what price, shown where."""

from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from farthing.config import Strict, unknown
from farthing.errors import RecipeError
from farthing.models import families
from farthing.models.config import ModelConfig


class TaskSection(Strict):
    """[task]: the taskset that is trained on and evaluated; several are `[tasks.NAME]` tables with the same keys, where
    `name` is NAME when not given. Other keys are the taskset's own settings."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, description="Name of the taskset; `farthing tasks` lists them.")

    @property
    def settings(self) -> dict[str, Any]:
        """The taskset's own settings."""
        return dict(self.model_extra or {})


class ModelSection(Strict):
    """[model]: a checkpoint to start from (`path`), or the shape of a new model in Hugging Face's names.

    Other keys are those of the family's config.json; what the family does not read is refused.
    """

    model_config = ConfigDict(extra="allow")

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
        None, ge=2, description="Width of a head; hidden_size / num_attention_heads when not given."
    )
    max_position_embeddings: int = Field(1024, ge=8, description="The longest sequence, in tokens.")
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary embedding.")
    rms_norm_eps: float = Field(1e-6, gt=0, description="Added to the mean square in RMSNorm.")
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
        if "vocab_size" in given:
            raise ValueError("vocab_size comes from the tokenizer; delete it here")
        missing = [name for name in self.SHAPE if getattr(self, name) is None]
        if self.path is None and missing:
            raise ValueError(f'missing key "{missing[0]}" (or a path to start from)')
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        heads = self.num_attention_heads
        if heads and self.hidden_size and self.head_dim is None and self.hidden_size % (2 * heads):
            raise ValueError(f"hidden_size {self.hidden_size} does not give {heads} heads of even width")
        return self

    def resolved(self) -> dict[str, Any]:
        """The table with its defaults written out; a path stands alone."""
        return (
            {"path": self.path} if self.path is not None else self.model_dump(mode="json", exclude_none=True)
        )

    def hf_config(self, vocab_size: int) -> dict[str, Any]:
        """The config.json of the new model that the shape describes; meaningless where there is a path."""
        heads, width = self.num_attention_heads or 1, self.hidden_size or 1
        derived = {"num_key_value_heads": heads, "head_dim": width // heads, "vocab_size": vocab_size}
        return derived | self.model_dump(exclude_none=True, exclude={"path"})

    def shape(self, vocab_size: int) -> ModelConfig:
        """The new model's configuration; raises CheckpointError for an unknown family and for what it refuses,
        RecipeError for a key that the family does not read."""
        config = _Watched(self.hf_config(vocab_size))
        family = families.find(self.model_type)
        shape = family.read(config)
        for name in sorted(self.model_fields_set - config.read - {"model_type"}):
            raise RecipeError(unknown(name, config.read | {"path"}, "key"))
        return shape


class _Watched(dict[str, Any]):
    """A table that remembers which of its keys were asked for, present or not."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)


class CostSection(Strict):
    """[cost]: what a core costs, so that everything has a price."""

    price_per_core_hour: float = Field(0.0, ge=0, description="Price of one core for one hour.")
    watts_per_core: float = Field(
        0.0,
        ge=0,
        description="Watts of a busy core, for the estimate of energy; by the processor's name when 0.",
    )
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
