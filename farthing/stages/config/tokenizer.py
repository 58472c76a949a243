"""What the tokenizer stage can be told."""

from pydantic import Field

from farthing.stages.config.base import StageConfig


class TokenizerConfig(StageConfig):
    """kind = "tokenizer": byte-level BPE trained on the recipe's own corpus."""

    vocab_size: int = Field(
        512, ge=300, le=200_000, description="Size of the vocabulary, bytes and specials in it."
    )
    digit_group: int = Field(1, ge=1, le=3, description="How many digits may share a token.")
    corpus_sample: int = Field(2000, ge=1, description="Documents of the corpus to learn the merges from.")
