"""The loop that supervised stages share: batches that are a function of the step, cross-entropy, held-out loss.

A step depends on the checkpoint, on its index and on what `carried` holds, and on nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from farthing.algorithms.losses import cross_entropy
from farthing.data.sample import Sample
from farthing.learner.api import TokenLoss, Tokens
from farthing.learner.checkpoint import Checkpoints
from farthing.learner.local import LocalLearner
from farthing.models.arithmetic import forward_flops
from farthing.stages.config.base import OptimizerConfig
from farthing.stages.context import Context
from farthing.stages.learning import peak_flops


@dataclass
class Supervised:
    """A supervised stage under way: `steps` steps of `batch(step)` at `lr_scale(step)` of the peak rate.

    `carried`: whole numbers that a batch leaves for the next one; they are saved and put back with the weights.
    """

    context: Context
    config: OptimizerConfig
    learner: LocalLearner
    steps: int
    batch: Callable[[int], list[Sample]]
    lr_scale: Callable[[int], float]
    heldout: Sequence[Sample] = ()
    eval_every: int = 100
    carried: dict[str, int] = field(default_factory=dict)
    step: int = 0
    tokens_seen: int = 0

    def __post_init__(self) -> None:
        directory = self.context.directory / "checkpoints"
        self.checkpoints = Checkpoints(directory, self.config.keep_checkpoints)

    def carry_out(self, kind: str) -> None:
        """Every step, from the last checkpoint if there is one."""
        saved = self.checkpoints.latest()
        if saved is not None:
            self.learner.load_state(saved.tensors, saved.step)
            self.step, self.tokens_seen = saved.step, int(saved.state["tokens_seen"])
            self.carried.update(saved.state["carried"])
        self.context.metrics.truncate(self.context.name, self.step)
        self.context.metrics.begin(self.context.name, kind=kind, steps=self.steps, step=self.step)
        while self.step < self.steps:
            self._one_step()

    def _one_step(self) -> None:
        context, name = self.context, self.context.name
        metrics = self._learn()
        if self.heldout and self._is_due(self.eval_every):
            with context.ledger.phase(name, "evaluate", self.step) as entry:
                tokens = sum(len(sample.token_ids) for sample in self.heldout)
                entry.tokens += tokens
                entry.flops += forward_flops(self.learner.model.config, tokens, tokens // len(self.heldout))
                metrics["heldout_loss"] = self.learner.mean_loss(self.heldout, objective)
        context.metrics.log(name, self.step, metrics)
        context.progress(self.step, self.steps)
        if self._is_due(self.config.checkpoint_every):
            with context.ledger.phase(name, "checkpoint", self.step):
                state = {"tokens_seen": self.tokens_seen, "carried": self.carried}
                self.checkpoints.save(self.step, self.learner.state(), state)

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.steps

    def _learn(self) -> dict[str, float]:
        """One optimizer step; its metrics."""
        began = time.perf_counter()
        with self.context.ledger.phase(self.context.name, "train", self.step) as entry:
            batch = self.batch(self.step)
            scale = self.lr_scale(self.step)
            metrics = self.learner.step(batch, objective, scale)
            tokens = sum(len(sample.token_ids) for sample in batch)
            entry.tokens += tokens
            entry.flops += self.learner.train_flops(tokens, tokens // len(batch))
        self.step += 1
        self.tokens_seen += tokens
        seconds = time.perf_counter() - began
        return {
            **metrics,
            "lr": scale * self.config.lr,
            "num_tokens": self.tokens_seen,
            "tokens_per_second": tokens / seconds,
            "step_time": seconds,
            "mfu": entry.flops / seconds / peak_flops(self.context, self.config.dtype),
        }


def objective(tokens: Tokens) -> TokenLoss:
    """Cross-entropy of what is there to be learnt."""
    return TokenLoss(cross_entropy(tokens.logprobs))
