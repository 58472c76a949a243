"""The reference policy of a KL term: the stage's first weights, or the policy as it was every so many steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from farthing.data.sample import Sample
from farthing.learner.local import LocalLearner
from farthing.learner.optim import moving
from farthing.models.decoder import Decoder, twin

PREFIX = "reference."


@dataclass
class Reference:
    """A learner that is only asked for log-probabilities; it becomes the policy every `every` steps, never if 0."""

    learner: LocalLearner
    every: int

    @classmethod
    def of(cls, policy: LocalLearner, every: int) -> Reference:
        """The policy as it is now. Beside an adapter it takes the memory of another adapter, and no more."""
        learner = LocalLearner(
            twin(policy.model),
            policy.settings,
            compute_dtype=policy.compute_dtype,
            microbatch_tokens=policy.microbatch_tokens,
            temperature=policy.temperature,
        )
        return cls(learner, every)

    def refer(self, samples: list[Sample]) -> list[Sample]:
        """The samples with the reference's log-probabilities."""
        logprobs = self.learner.logprobs(samples)
        return [replace(row, ref_logprobs=own) for row, own in zip(samples, logprobs, strict=True)]

    def follow(self, policy: Decoder, step: int) -> None:
        """Become the policy if `step` steps done is a time for it."""
        if self.every and step % self.every == 0:
            self._copy(moving(policy))

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold: nothing where the reference is still what the stage began with."""
        if not self.every:
            return {}
        return {PREFIX + name: tensor for name, tensor in moving(self.learner.model).items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        if self.every:
            self._copy({n.removeprefix(PREFIX): t for n, t in tensors.items() if n.startswith(PREFIX)})

    @torch.no_grad()
    def _copy(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in moving(self.learner.model).items():
            tensor.copy_(weights[name])
        self.learner.model.publish(self.learner.compute_dtype)
