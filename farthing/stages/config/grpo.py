"""What the reinforcement learning stage can be told, and the presets that carry the names of papers."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from farthing.stages.config.base import OnModelConfig, OptimizerConfig, TaskMixConfig
from farthing.stages.config.guards import GuardConfig

PRESETS: dict[str, dict[str, Any]] = {
    # DeepSeekMath, arXiv 2402.03300, without the KL term, as most do since DAPO.
    "grpo": {"advantage": "zscore", "loss_reduction": "sequence"},
    # DeepSeek-R1, arXiv 2501.12948: a small KL to the reference and a clip of 10, which never binds below.
    "r1": {
        "advantage": "zscore",
        "loss_reduction": "sequence",
        "kl_coef": 0.001,
        "clip_low": 1.0,
        "clip_high": 10.0,
    },
    # "Understanding R1-Zero-like training", arXiv 2503.20783: no division by std nor by length.
    "dr_grpo": {"advantage": "mean", "loss_reduction": "constant"},
    # DAPO, arXiv 2503.14476: clip-higher and a mean over all tokens of the batch.
    "dapo": {"advantage": "zscore", "loss_reduction": "token", "clip_low": 0.2, "clip_high": 0.28},
    # RLOO, arXiv 2402.14740: the mean of the other samples is the baseline.
    "rloo": {"advantage": "leave_one_out", "loss_reduction": "constant"},
}


class GrpoConfig(OptimizerConfig, OnModelConfig, TaskMixConfig):
    """kind = "grpo": reinforcement learning from answers that can be checked."""

    EXTENDABLE: ClassVar[frozenset[str]] = frozenset({"steps"})

    steps: int = Field(200, ge=1, description="Rollout steps; a finished run goes on when it is raised.")
    prompts_per_step: int = Field(32, ge=1, description="Different problems in a step.")
    samples_per_prompt: int = Field(8, ge=2, description="Completions sampled for each of them: a group.")
    updates_per_rollout: int = Field(1, ge=1, description="Optimizer steps on the samples of one rollout.")
    max_new_tokens: int = Field(256, ge=1, description="The longest completion, in tokens.")
    temperature: float = Field(1.0, gt=0, le=5, description="Sampling temperature.")
    algorithm: Literal["grpo", "r1", "dr_grpo", "dapo", "rloo"] = Field(
        "grpo",
        description="A preset of advantage, loss_reduction, clip_* and kl_coef; each may be overridden.",
    )
    clip_low: float = Field(0.2, gt=0, le=1, description="The ratio is clipped below at 1 - clip_low.")
    clip_high: float = Field(0.2, gt=0, description="The ratio is clipped above at 1 + clip_high.")
    kl_coef: float = Field(0.0, ge=0, description="Weight of the KL term to the stage's first weights.")
    advantage: Literal["zscore", "mean", "leave_one_out"] = Field(
        "zscore", description="How rewards are compared within a group."
    )
    loss_reduction: Literal["sequence", "token", "constant"] = Field(
        "sequence", description="Mean of each sequence's mean, mean of all tokens, or sum over a constant."
    )
    lr: float = Field(6e-4, gt=0, le=1, description="Learning rate of AdamW.")
    muon_lr: float = Field(5e-3, gt=0, le=1, description="Learning rate of Muon.")
    rewards: dict[str, float] = Field(
        default={"accuracy": 1.0, "format": 0.1},
        description="Weight of each part of the score in the reward.",
    )
    skip_dead_groups: bool = Field(
        True, description="Leave out groups whose rewards are all equal; true only where kl_coef is 0."
    )
    microbatch_tokens: int = Field(
        16384, ge=1, description="Tokens that one forward and backward pass holds."
    )
    eval_every: int = Field(25, ge=1, description="Steps between evaluations on held-out problems.")
    eval_problems: int = Field(128, ge=1, description="Problems of such an evaluation.")
    eval_samples: int = Field(1, ge=1, description="Samples for each of them.")
    checkpoint_every: int = Field(25, ge=1, description="Steps between checkpoints.")
    samples_every: int = Field(5, ge=1, description="Steps between groups that are kept for reading.")
    samples_kept: int = Field(2, ge=0, description="Groups that are kept each time.")
    guards: GuardConfig = Field(
        GuardConfig.model_validate({}), description="When the run counts as gone wrong: [grpo.guards], below."
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, data: Any) -> Any:
        """Fill in what the algorithm means, under whatever is given."""
        if not isinstance(data, dict):
            return data
        for name in ("top_k", "top_p", "min_p"):
            if name in data:
                raise ValueError(
                    f"{name} is for talking, not for learning: tokens it cuts off would have no probability in "
                    f"the ratio; delete {name} and use temperature"
                )
        filled = {**PRESETS.get(str(data.get("algorithm", "grpo")), {}), **data}
        filled.setdefault("skip_dead_groups", not filled.get("kl_coef"))
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.skip_dead_groups and self.kl_coef > 0:
            raise ValueError(
                "skip_dead_groups = true needs kl_coef = 0, because the KL term gives every group a gradient; "
                "set skip_dead_groups = false"
            )
        if not any(self.rewards.values()):
            raise ValueError("rewards: every weight is zero, so nothing could be learnt")
        return self
