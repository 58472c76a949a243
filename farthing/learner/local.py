"""The learner of one machine: samples into micro-batches, forward, backward, one update.

The learner knows no algorithm: weights and advantages come with the samples, the token loss is an argument.

Shapes: C hidden_size, V vocabulary, M trained tokens of a micro-batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from farthing.data.packing import microbatches
from farthing.data.sample import Sample
from farthing.errors import Derailed
from farthing.learner.api import Objective, Tokens
from farthing.learner.further import further_loss
from farthing.learner.optim import Optimizers, OptimSettings, moving
from farthing.learner.rows import FlatRows
from farthing.models.arithmetic import train_flops
from farthing.models.decoder import Decoder
from farthing.models.moe import balance


class LocalLearner:
    """Owns the float32 masters (the model's parameters) and the optimizer; computes in `compute_dtype`.

    Log-probabilities are those of the distribution sampled at `temperature`, so that ratios compare like with like.
    `entropy`: whether a step computes the policy's, for its objective and its metrics.
    `mtp_loss_weight` times the loss of further prediction joins that of every step, where the model has MTP modules.
    """

    def __init__(
        self,
        model: Decoder,
        settings: OptimSettings,
        *,
        compute_dtype: torch.dtype | None = None,
        microbatch_tokens: int = 1280,
        temperature: float = 1.0,
        entropy: bool = True,
        mtp_loss_weight: float = 0.0,
    ) -> None:
        self.model, self.settings, self.temperature, self.entropy = model, settings, temperature, entropy
        self.mtp_loss_weight = mtp_loss_weight if len(model.model.mtp) else 0.0
        self.compute_dtype, self.microbatch_tokens = compute_dtype, microbatch_tokens
        self.optimizers = Optimizers(model, settings)
        self.steps_taken = 0
        model.publish(compute_dtype)

    def step(
        self, samples: Sequence[Sample], objective: Objective, lr_scale: float = 1.0
    ) -> dict[str, float]:
        """One optimizer step; see the protocol. An empty batch (nothing teaches) changes nothing and says so."""
        self.steps_taken += 1
        if not samples:
            return {"loss": 0.0, "grad_norm": 0.0, "trained_tokens": 0.0}
        totals: dict[str, float] = defaultdict(float)
        self.model.unpack()
        for rows in self._microbatches(samples):
            self._accumulate(rows, objective, totals)
        return self._update(totals, lr_scale)

    def _microbatches(self, samples: Sequence[Sample]) -> Iterator[list[Sample]]:
        for group in microbatches(samples, self.microbatch_tokens, share=not self.mtp_loss_weight):
            yield [samples[index] for index in group]

    def _accumulate(self, rows: list[Sample], objective: Objective, totals: dict[str, float]) -> None:
        # Modules that predict further read every state of every row, so with them prompts are not shared.
        flat = FlatRows(rows, share=not self.mtp_loss_weight)
        kept = None if self.mtp_loss_weight else flat.predictors
        hidden = self.model.hidden(flat.token_ids, flat.positions, flat, kept)
        hidden_MC = (
            hidden.squeeze(0) if kept is not None else hidden.squeeze(0).index_select(0, flat.predictors)
        )
        tokens, weights_M = self._read(rows, flat, hidden_MC, self.entropy)
        result = objective(tokens)
        loss = (weights_M * result.loss).sum()
        totals["loss"] += loss.item()
        if self.mtp_loss_weight:
            further = further_loss(self.model, rows, flat, hidden)
            totals["mtp_loss"] += further.item()
            loss = loss + self.mtp_loss_weight * further
        loss.backward()
        totals["trained_tokens"] += len(weights_M)
        measured = {"entropy": tokens.entropy} if self.entropy else {}
        for name, values in {**measured, **result.metrics}.items():
            totals[name] = _joined(name, totals.get(name), values.detach().double())

    def tokens(self, rows: Sequence[Sample], *, entropy: bool = False) -> tuple[Tokens, Tensor]:
        """Forward one micro-batch: (what the objective sees, each trained token's weight [M])."""
        flat = FlatRows(rows)
        hidden_MC = self.model.hidden(flat.token_ids, flat.positions, flat, flat.predictors)[0]
        return self._read(rows, flat, hidden_MC, entropy)

    def _read(
        self, rows: Sequence[Sample], flat: FlatRows, hidden_MC: Tensor, entropy: bool
    ) -> tuple[Tokens, Tensor]:
        """The same from the hidden states of the predictors."""
        logprobs_M, entropy_M = self.model.token_logprobs(
            hidden_MC, flat.targets, self.temperature, entropy=entropy
        )
        logprobs_M, entropy_M = logprobs_M[: flat.trained], entropy_M[: flat.trained]
        counts = torch.tensor([row.num_trained for row in rows])

        def spread(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=logprobs_M.dtype).repeat_interleave(counts)

        def joined(streams: list[list[float]]) -> Tensor:
            return torch.tensor([value for stream in streams for value in stream], dtype=logprobs_M.dtype)

        tokens = Tokens(
            logprobs_M,
            entropy_M,
            spread([row.advantage for row in rows]),
            joined([row.rollout_logprobs for row in rows]),
            joined([row.ref_logprobs for row in rows]),
            joined([row.old_logprobs for row in rows]),
            torch.arange(len(rows)).repeat_interleave(counts),
            hidden_MC[: flat.trained],
            rows,
        )
        return tokens, spread([row.weight for row in rows])

    @torch.no_grad()
    def hidden(self, rows: Sequence[Sample]) -> Tensor:
        """What the head reads for every trained token of a micro-batch, [M, C]."""
        flat = FlatRows(rows)
        return self.model.hidden(flat.token_ids, flat.positions, flat, flat.predictors)[0][: flat.trained]

    @torch.no_grad()
    def logprobs(self, samples: Sequence[Sample]) -> list[list[float]]:
        """Log-probability of every trained token of every sample, in the order given."""
        found: list[list[float]] = [[] for _ in samples]
        for group in microbatches(samples, self.microbatch_tokens):
            rows = [samples[index] for index in group]
            values = self.tokens(rows)[0].logprobs.split([row.num_trained for row in rows])
            for index, own in zip(group, values, strict=True):
                found[index] = own.tolist()
        return found

    @torch.no_grad()
    def mean_loss(self, samples: Sequence[Sample], objective: Objective) -> float:
        """The objective averaged over trained tokens; nothing is learnt."""
        total = count = 0.0
        for rows in self._microbatches(samples):
            loss_M = objective(self.tokens(rows)[0]).loss
            total, count = total + loss_M.double().sum().item(), count + len(loss_M)
        return total / count

    def train_flops(self, tokens: int, context: int) -> int:
        """FLOPs of a step's passes over `tokens` tokens in rows of `context`. Where adapters learn, their own few are
        left out, and the gradients of frozen weights are not computed."""
        frozen = not self.model.head_weight.requires_grad
        return train_flops(self.model.config, tokens, context, mtp=self.mtp_loss_weight > 0, frozen=frozen)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on and that a step changes: of the model ("model.*") and of the
        optimizer ("optimizer.*"). Frozen weights are what the stage began from."""
        model = {f"model.{name}": tensor for name, tensor in moving(self.model).items()}
        return model | {f"optimizer.{name}": tensor for name, tensor in self.optimizers.state().items()}

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Put back what `state` gave after `step` steps."""
        with torch.no_grad():
            for name, tensor in moving(self.model).items():
                tensor.copy_(tensors[f"model.{name}"])
        prefix = "optimizer."
        self.optimizers.load_state(
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        )
        self.steps_taken = step
        self.model.publish(self.compute_dtype)

    def _update(self, totals: dict[str, float], lr_scale: float) -> dict[str, float]:
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        grad_norm = float(norm)
        # Before clipping, which would spread one infinity over every parameter.
        if not math.isfinite(grad_norm) or not math.isfinite(totals["loss"]):
            raise self._failure(totals["loss"], grad_norm)
        if grad_norm > 0.0:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.settings.clip_norm, norm)
            self.optimizers.step(lr_scale)
        else:  # momentum would move the weights; a batch that teaches nothing does what an empty one does
            self.model.zero_grad(set_to_none=True)
        routing = balance(self.model, self.settings.bias_update_speed)
        self.model.publish(self.compute_dtype)
        count = totals.pop("trained_tokens")
        sums = {name: totals.pop(name) for name in ("loss", "mtp_loss") if name in totals}
        averaged = {name: value if name.endswith("_max") else value / count for name, value in totals.items()}
        return {**sums, "grad_norm": grad_norm, "trained_tokens": count, **averaged, **routing}

    def _failure(self, loss: float, grad_norm: float) -> Derailed:
        """What went wrong where; the gradient is dropped, so that whoever goes back to a checkpoint starts clean."""
        named = self.model.named_parameters()
        bad = next((n for n, p in named if p.grad is not None and not p.grad.isfinite().all()), "none")
        self.model.zero_grad(set_to_none=True)
        return Derailed(
            f"step {self.steps_taken}: loss {loss}, gradient norm {grad_norm}; "
            f"first parameter with a non-finite gradient: {bad}"
        )


def _joined(name: str, total: float | None, values: Tensor) -> float:
    """Metrics named *_max keep the largest token's value; all others are summed, to be averaged at the end."""
    if name.endswith("_max"):
        return max(values.max().item(), -math.inf if total is None else total)
    return values.sum().item() + (total or 0.0)
