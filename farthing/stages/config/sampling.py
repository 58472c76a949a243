"""What stages that sample from a model can be told."""

from pydantic import Field

from farthing.stages.config.base import OnModelConfig, TaskMixConfig


class SamplingConfig(OnModelConfig, TaskMixConfig):
    """The keys of sampling."""

    prompts_per_step: int = Field(32, ge=1, description="Different problems in a step.")
    samples_per_prompt: int = Field(8, ge=1, description="Completions sampled for each of them.")
    temperature: float = Field(1.0, gt=0, le=5, description="Sampling temperature.")
    max_new_tokens: int = Field(256, ge=1, description="The longest completion, in tokens.")


class GlanceConfig(SamplingConfig):
    """The keys of stages that learn from what they sample, with a quick look at held-out problems now and then."""

    eval_every: int = Field(25, ge=1, description="Steps between evaluations on held-out problems.")
    eval_problems: int = Field(128, ge=1, description="Problems of such an evaluation.")
    eval_samples: int = Field(1, ge=1, description="Samples for each of them.")
