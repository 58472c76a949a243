"""From what a person typed to a model that can be asked: a model directory, or a run and then its final model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farthing.errors import CheckpointError
from farthing.text.files import read_json

if TYPE_CHECKING:
    from farthing.engine.engine import Engine
    from farthing.text.tokenizer import Tokenizer

CARD = "farthing.json"


@dataclass(frozen=True)
class Opened:
    """A model ready to answer. `card` is what the run that made it wrote beside it: its task, its length."""

    directory: Path
    model: Any
    tokenizer: "Tokenizer"
    engine: "Engine"
    card: dict[str, Any]

    @property
    def context(self) -> int:
        """The longest sequence it was built for, prompt and reply together, in tokens."""
        return int(self.model.config.max_position_embeddings)

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The tokens that end a turn: those of generation_config.json, else the tokenizer's own."""
        named = read_json(self.directory / "generation_config.json", missing={}).get("eos_token_id")
        ids = named if isinstance(named, list) else [named if named is not None else self.tokenizer.eos_id]
        return tuple(int(token) for token in ids if token is not None)

    @property
    def max_new_tokens(self) -> int:
        """How long it was brought up to write; 512 where nobody said."""
        return int(self.card.get("max_new_tokens", 512))


def model_directory(path: Path) -> Path:
    """The directory with the weights: `path` itself, or the final model of the run that `path` is.

    Raises CheckpointError with what to type instead.
    """
    if (path / "config.json").is_file() and not (path / "recipe.toml").is_file():
        return path
    if (path / "model" / "config.json").is_file():
        return path / "model"
    if not path.exists():
        raise CheckpointError(f"{path}: no such directory")
    if (path / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{path}: an adapter without its model's config.json and tokenizer; merge it: "
            f"farthing export MODEL DST --adapter {path}"
        )
    if (path / "base" / "config.json").is_file():
        raise CheckpointError(
            f"{path}: this run has no final model yet; its base is {path / 'base'}, and the same `farthing run` goes on"
        )
    if (path / "recipe.toml").is_file():
        raise CheckpointError(f"{path}: this run has no model yet; the same `farthing run` goes on")
    raise CheckpointError(f"{path}: neither a model directory (config.json and weights) nor a run directory")


def open_model(path: Path) -> Opened:
    """Load the model at `path` and put an engine around it; raises CheckpointError."""
    directory = model_directory(path)
    import farthing

    model, tokenizer = farthing.load_model(directory)
    if tokenizer is None:
        raise CheckpointError(
            f"{directory}: there is no tokenizer (tokenizer.json), so text means nothing to it"
        )
    return Opened(
        directory,
        model,
        tokenizer,
        farthing.Engine(model, tokenizer),
        read_json(directory / CARD, missing={}),
    )
