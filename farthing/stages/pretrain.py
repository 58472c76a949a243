"""The pretraining stage: a base model from random weights.

Documents are a function of their index and every step reads the next ones, so a step depends on the checkpoint and on
nothing else; the only state beside the weights is the index of the next document.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from farthing.algorithms.losses import cross_entropy
from farthing.algorithms.schedules import trapezoid
from farthing.data.sample import Sample
from farthing.data.sources import HELDOUT_START, Source, as_text, load_source
from farthing.learner.api import TokenLoss, Tokens
from farthing.learner.checkpoint import Checkpoints
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.arithmetic import train_flops
from farthing.models.decoder import Decoder, initialise
from farthing.stages.config.base import OptimizerConfig
from farthing.stages.config.pretrain import PretrainConfig
from farthing.stages.context import Context
from farthing.text.tokenizer import Tokenizer

MICROBATCH_TOKENS = 6144


def run(context: Context) -> dict[str, str]:
    """Train for `steps` steps, from the last checkpoint if there is one; writes model/."""
    config = context.of(PretrainConfig)
    training = _Training.start(context, config)
    context.metrics.begin(context.name, kind="pretrain", steps=config.steps, step=training.step)
    while training.step < config.steps:
        _one_step(context, config, training)
    return context.save_model(training.learner.model, training.tokenizer)


@dataclass
class _Training:
    """What one step hands to the next."""

    learner: LocalLearner
    tokenizer: Tokenizer
    source: Source
    heldout: list[Sample]
    checkpoints: Checkpoints
    step: int = 0
    next_document: int = 0
    tokens_seen: int = 0

    @classmethod
    def start(cls, context: Context, config: PretrainConfig) -> _Training:
        tokenizer = context.load_tokenizer()
        source = load_source(config.corpus, context.task_tables, context.seed)
        model = initialise(Decoder(context.model.shape(tokenizer.vocab_size)), context.seed)
        # Nobody samples here, so nothing needs the head's float32: it takes the compute dtype like every other matrix.
        dtype = model.head_dtype = context.compute_dtype(config.dtype)
        learner = LocalLearner(
            model,
            optim_settings(config),
            compute_dtype=dtype,
            microbatch_tokens=MICROBATCH_TOKENS,
            entropy=False,
        )
        heldout = [
            _sample(tokenizer, source, HELDOUT_START + i, 1.0) for i in range(config.heldout_documents)
        ]
        checkpoints = Checkpoints(context.directory / "checkpoints", config.keep_checkpoints)
        training = cls(learner, tokenizer, source, heldout, checkpoints)
        training.resume(context)
        return training

    def resume(self, context: Context) -> None:
        saved = self.checkpoints.latest()
        if saved is not None:
            self.learner.load_state(saved.tensors, saved.step)
            self.step, self.next_document = saved.step, int(saved.state["next_document"])
            self.tokens_seen = int(saved.state["tokens_seen"])
        context.metrics.truncate(context.name, self.step)

    def next_batch(self, tokens: int) -> list[Sample]:
        """The next documents, at least `tokens` tokens of them; every token after a document's first is trained on."""
        rows: list[list[int]] = []
        count = 0
        while count < tokens:
            rows.append(
                self.tokenizer.encode(as_text(*self.source.document(self.next_document)), special=True)
            )
            self.next_document += 1
            count += len(rows[-1])
        weight = 1.0 / sum(len(row) - 1 for row in rows)
        return [Sample(row, 1, weight) for row in rows]

    def heldout_loss(self) -> float:
        """Mean cross-entropy in nats per token on documents that are never trained on."""
        return self.learner.mean_loss(self.heldout, _objective)


def _one_step(context: Context, config: PretrainConfig, training: _Training) -> None:
    began = time.perf_counter()
    with context.ledger.phase(context.name, "train", training.step) as entry:
        batch = training.next_batch(config.tokens_per_step)
        scale = trapezoid(training.step, config.steps, config.warmup_steps, config.decay_fraction)
        metrics = training.learner.step(batch, _objective, scale)
        tokens = sum(len(sample.token_ids) for sample in batch)
        entry.tokens += tokens
        entry.flops += train_flops(training.learner.model.config, tokens, tokens // len(batch))
    training.step += 1
    training.tokens_seen += tokens
    seconds = time.perf_counter() - began
    values = {
        "loss": metrics["loss"],
        "grad_norm": metrics["grad_norm"],
        "lr": scale * config.lr,
        "num_tokens": training.tokens_seen,
        "tokens_per_second": tokens / seconds,
        "step_time": seconds,
        "mfu": entry.flops / seconds / peak_flops(context, config.dtype),
    }
    if training.heldout and (training.step % config.eval_every == 0 or training.step == config.steps):
        with context.ledger.phase(context.name, "evaluate", training.step):
            values["heldout_loss"] = training.heldout_loss()
    context.metrics.log(context.name, training.step, values)
    context.progress(training.step, config.steps)
    if training.step % config.checkpoint_every == 0 or training.step == config.steps:
        with context.ledger.phase(context.name, "checkpoint", training.step):
            state = {"next_document": training.next_document, "tokens_seen": training.tokens_seen}
            training.checkpoints.save(training.step, training.learner.state(), state)


def _sample(tokenizer: Tokenizer, source: Source, index: int, weight: float) -> Sample:
    return Sample(tokenizer.encode(as_text(*source.document(index)), special=True), 1, weight)


def _objective(tokens: Tokens) -> TokenLoss:
    return TokenLoss(cross_entropy(tokens.logprobs))


def optim_settings(config: OptimizerConfig) -> OptimSettings:
    """The optimizer keys of a stage."""
    return OptimSettings(
        optimizer=config.optimizer,
        lr=config.lr,
        muon_lr=config.muon_lr,
        weight_decay=config.weight_decay,
        betas=config.betas,
        clip_norm=config.clip_norm,
    )


def peak_flops(context: Context, dtype: str) -> float:
    """The measured GEMM peak in the dtype the stage computes in, FLOP/s."""
    is_bf16 = context.compute_dtype(dtype) == torch.bfloat16
    return context.hardware.gemm_flops_bf16 if is_bf16 else context.hardware.gemm_flops
