"""What a learner is given: token sequences and, for each trained token, how much it weighs. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One row of training data: a prompt followed by what is trained on.

    token_ids   the whole row, prompt and completion
    prompt_len  tokens at the front that are read and not trained on
    weight      what one trained token counts in the loss; an algorithm's reduction decides it (1 / denominator)
    advantage   how much better than its group the sample was (0.0 for supervised rows)
    rollout_logprobs  the sampler's log-probability of every trained token; empty for supervised rows
    ref_logprobs      the reference policy's, where a divergence is charged; else empty
    old_logprobs      the learner's own, from before its first update on the rollout; empty where there was none since
    """

    token_ids: list[int]
    prompt_len: int
    weight: float
    advantage: float = 0.0
    rollout_logprobs: list[float] = field(default_factory=list)
    ref_logprobs: list[float] = field(default_factory=list)
    old_logprobs: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        trained = len(self.token_ids) - self.prompt_len
        if not 1 <= self.prompt_len < len(self.token_ids):
            raise ValueError(
                f"prompt_len {self.prompt_len} leaves nothing of {len(self.token_ids)} tokens to train on"
            )
        for name, values in (
            ("rollout_logprobs", self.rollout_logprobs),
            ("ref_logprobs", self.ref_logprobs),
            ("old_logprobs", self.old_logprobs),
        ):
            if values and len(values) != trained:
                raise ValueError(f"{name} has {len(values)} entries for {trained} trained tokens")

    @property
    def num_trained(self) -> int:
        """Tokens that carry gradient."""
        return len(self.token_ids) - self.prompt_len
