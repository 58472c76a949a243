"""What the reinforcement learning stage can be told."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from farthing.algorithms.presets import PRESETS
from farthing.config import unknown
from farthing.stages.config.base import LearningConfig, Share
from farthing.stages.config.guards import GuardConfig
from farthing.stages.config.sampling import GlanceConfig


class GrpoConfig(LearningConfig, GlanceConfig):
    """kind = "grpo": reinforcement learning from answers that can be checked."""

    EXTENDABLE: ClassVar[frozenset[str]] = frozenset({"steps"})

    steps: int = Field(200, ge=1, description="Rollout steps; a finished run goes on when it is raised.")
    samples_per_prompt: int = Field(8, ge=2, description="Completions sampled for each of them: a group.")
    updates_per_rollout: int = Field(1, ge=1, description="Optimizer steps on the samples of one rollout.")
    algorithm: str = Field(
        "grpo",
        description=f"A preset of other keys, each of which may be overridden: {', '.join(PRESETS)}.",
    )
    advantage: Literal["zscore", "mean", "leave_one_out"] = Field(
        "zscore", description="How rewards are compared within a group."
    )
    loss_reduction: Literal["sequence", "token", "constant"] = Field(
        "sequence", description="Mean of each sequence's mean, mean of all tokens, or sum over a constant."
    )
    surrogate: Literal["clipped_ratio", "clipped_weight"] = Field(
        "clipped_ratio",
        description="What the clip holds: the ratio, so that a token beyond it has no gradient, or only its weight.",
    )
    ratio_level: Literal["token", "sequence"] = Field(
        "token",
        description="A ratio for each token, or the geometric mean over its sequence for all of them.",
    )
    clip_low: float = Field(0.2, gt=0, le=1, description="The ratio is clipped below at 1 - clip_low.")
    clip_high: float = Field(0.2, gt=0, description="The ratio is clipped above at 1 + clip_high.")
    importance_sampling: Literal["auto", "off", "token", "sequence"] = Field(
        "auto",
        description="Weights for tokens that other weights have drawn, by token or sequence; "
        "auto: by token, from the second update of a rollout on.",
    )
    importance_cap: float = Field(2.0, ge=1, description="Such a weight is at most this.")
    kl_coef: float = Field(0.0, ge=0, description="Weight of the KL term to a reference policy.")
    reference_every: int = Field(
        0, ge=0, description="Steps after which the reference becomes the policy; 0: it stays the first."
    )
    overlong_share: Share = Field(
        0.0, description="Share of max_new_tokens over which the reward of a long completion falls; 0: none."
    )
    overlong_penalty: float = Field(0.5, ge=0, description="By how much it has fallen at max_new_tokens.")
    refill_rounds: int = Field(
        0, ge=0, le=100, description="How often, at most, groups that teach nothing are replaced in a step."
    )
    selection: Literal["in_order", "pass_rate"] = Field(
        "in_order",
        description="pass_rate: problems that all samples or none of them solved sit out the next passes.",
    )
    lr: float = Field(6e-4, gt=0, le=1, description="Learning rate of AdamW.")
    muon_lr: float = Field(5e-3, gt=0, le=1, description="Learning rate of Muon.")
    rewards: dict[str, float] = Field(
        default={"accuracy": 1.0, "format": 0.1},
        description="Weight of each part of the score in the reward.",
    )
    preference: Literal["readable"] | None = Field(
        None,
        description='Who gives the part "preference", for what cannot be checked; readable: a few plain rules.',
    )
    skip_dead_groups: bool = Field(
        True, description="Leave out groups whose rewards are all equal; true only where kl_coef is 0."
    )
    stop_decided: bool = Field(
        True,
        description="End a sample once its reward is decided: it has an answer and can be well-formed no more, or "
        "there is no room left for an answer; only where rewards weigh format, and nothing but accuracy beside it.",
    )
    checkpoint_every: int = Field(25, ge=1, description="Steps between checkpoints.")
    samples_every: int = Field(5, ge=1, description="Steps between groups that are kept for reading.")
    samples_kept: int = Field(2, ge=0, description="Groups that are kept each time.")
    preflight: Literal["refuse", "warn"] = Field(
        "refuse", description="What a first batch does that shows that nothing can be learnt: docs/doctor.md."
    )
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
        name = str(data.get("algorithm", "grpo"))
        if name not in PRESETS:
            raise ValueError(unknown(name, PRESETS, "algorithm"))
        filled = {**PRESETS[name], **data}
        filled.setdefault("skip_dead_groups", not filled.get("kl_coef"))
        if not filled.get("kl_coef"):
            filled["reference_every"] = data.get("reference_every", 0)
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.skip_dead_groups and self.kl_coef > 0:
            raise ValueError(
                "skip_dead_groups = true needs kl_coef = 0, because the KL term gives every group a gradient; "
                "set skip_dead_groups = false"
            )
        if self.reference_every and not self.kl_coef:
            raise ValueError(
                "reference_every needs a reference, which is there only where kl_coef > 0; delete it or set kl_coef"
            )
        if (self.preference is None) != ("preference" not in self.rewards):
            raise ValueError(
                "preference and rewards.preference belong together: who judges, and what it counts"
            )
        if self.updates_per_rollout > self.prompts_per_step:
            raise ValueError(
                f"updates_per_rollout = {self.updates_per_rollout} needs as many prompts_per_step, because a group is "
                f"never split; there are {self.prompts_per_step}"
            )
        if not any(self.rewards.values()):
            raise ValueError("rewards: every weight is zero, so nothing could be learnt")
        return self

    def correction(self, update: int) -> Literal["token", "sequence"] | None:
        """The level of the importance weights in the `update`-th update of a rollout, from 0; None: no weights."""
        if self.importance_sampling == "auto":
            return "token" if update else None
        return None if self.importance_sampling == "off" else self.importance_sampling
