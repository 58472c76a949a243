"""What ends a run that has gone wrong, and when."""

from pydantic import Field

from farthing.config import Strict


class GuardConfig(Strict):
    """When reinforcement learning counts as gone wrong. Each is a mean over `window` steps; 0 switches
    a guard off. The run then goes back to a checkpoint from before and learns on at half the rate, at most `rollbacks`
    times; after that it stops. A gradient that is not finite always counts."""

    window: int = Field(10, ge=2, description="Steps that a guard looks back on.")
    entropy_floor: float = Field(
        0.02, ge=0, description="Nats per token; less is a collapse, unless nearly all answers are right."
    )
    entropy_rise: float = Field(2.0, ge=0, description="Nats per token above the first steps; more is noise.")
    mismatch_kl: float = Field(
        0.1, ge=0, description="Nats per token between sampler and learner; more is two different models."
    )
    repetition_rise: float = Field(
        0.3, ge=0, le=1, description="How much more of the samples may be repeated than in the first steps."
    )
    rollbacks: int = Field(2, ge=0, description="How often the run goes back before it stops.")
