"""The tokenizer stage: byte-level BPE on the recipe's own corpus."""

from __future__ import annotations

from farthing.data.sources import as_text, load_source
from farthing.stages.config.tokenizer import TokenizerConfig
from farthing.stages.context import Context
from farthing.text import bpe


def run(context: Context) -> dict[str, str]:
    """Train on the first `corpus_sample` documents of the corpus that pretraining will read."""
    config = context.of(TokenizerConfig)
    corpus = next(
        table["corpus"] for table in context.recipe.values() if isinstance(table, dict) and "corpus" in table
    )
    source = load_source(corpus, context.task_tables, context.seed)
    with context.ledger.phase(context.name, "train"):
        texts = (as_text(*source.document(index)) for index in range(config.corpus_sample))
        tokenizer = bpe.train(texts, config.vocab_size, config.digit_group)
        tokenizer.save(context.directory / "tokenizer")
    return {"tokenizer": f"stages/{context.name}/tokenizer"}
