"""The pretraining stage: a base model from random weights.

Documents are a function of their index and every step reads the next ones, so a step depends on the checkpoint and on
nothing else; the only state beside the weights is the index of the next document.
"""

from __future__ import annotations

from dataclasses import dataclass

from farthing.algorithms.schedules import trapezoid
from farthing.data.sample import Sample
from farthing.data.sources import HELDOUT_START, Source, as_text, load_source
from farthing.learner.local import LocalLearner
from farthing.models.decoder import Decoder, initialise
from farthing.stages.config.pretrain import PretrainConfig
from farthing.stages.context import Context
from farthing.stages.learning import optim_settings
from farthing.stages.supervised import Supervised
from farthing.text.tokenizer import Tokenizer


def run(context: Context) -> dict[str, str]:
    """Train for `steps` steps, from the last checkpoint if there is one; writes model/."""
    config = context.of(PretrainConfig)
    model, tokenizer = begin(context, config)
    corpus = Corpus(load_source(config.corpus, context.task_tables, context.seed), tokenizer)
    # Nobody samples here, so nothing needs the head's float32: it takes the compute dtype like every other matrix.
    dtype = model.head_dtype = context.compute_dtype(config.dtype)
    learner = LocalLearner(
        model,
        optim_settings(config),
        compute_dtype=dtype,
        microbatch_tokens=config.microbatch_tokens,
        entropy=False,
        mtp_loss_weight=config.mtp_loss_weight,
    )
    carried = {"next_document": 0}
    training = Supervised(
        context,
        config,
        learner,
        config.steps,
        batch=lambda _: corpus.next_batch(config.tokens_per_step, carried),
        lr_scale=lambda step: trapezoid(step, config.steps, config.warmup_steps, config.decay_fraction),
        heldout=[corpus.row(HELDOUT_START + index, 1.0) for index in range(config.heldout_documents)],
        eval_every=config.eval_every,
        carried=carried,
    )
    training.carry_out("pretrain")
    return context.save_model(model, tokenizer)


def begin(context: Context, config: PretrainConfig) -> tuple[Decoder, Tokenizer]:
    """The model as it is before the first step."""
    if config.model is not None:
        return context.load_model(config.model)
    tokenizer = context.load_tokenizer()
    return initialise(Decoder(context.model.shape(tokenizer.vocab_size)), context.seed), tokenizer


@dataclass(frozen=True)
class Corpus:
    """Documents in tokens; every token after a document's first is trained on."""

    source: Source
    tokenizer: Tokenizer

    def row(self, index: int, weight: float) -> Sample:
        return Sample(self._tokens(index), 1, weight)

    def next_batch(self, tokens: int, carried: dict[str, int]) -> list[Sample]:
        """The next documents, at least `tokens` tokens of them."""
        rows: list[list[int]] = []
        while sum(map(len, rows)) < tokens:
            rows.append(self._tokens(carried["next_document"]))
            carried["next_document"] += 1
        weight = 1.0 / sum(len(row) - 1 for row in rows)
        return [Sample(row, 1, weight) for row in rows]

    def _tokens(self, index: int) -> list[int]:
        return self.tokenizer.encode(as_text(*self.source.document(index)), special=True)
