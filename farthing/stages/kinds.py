"""The kinds of stages: a new one is a page with `run(context)`, its configuration, and a line here. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from farthing.stages.config.base import StageConfig
from farthing.stages.config.distill import DistillConfig
from farthing.stages.config.evaluate import EvaluateConfig
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.config.pretrain import PretrainConfig
from farthing.stages.config.rejection import RejectionConfig
from farthing.stages.config.sft import SftConfig
from farthing.stages.config.student import StudentConfig
from farthing.stages.config.tokenizer import TokenizerConfig


@dataclass(frozen=True)
class Kind:
    """What a kind of stage can be told, and `module`, which carries it out and is imported when its turn comes.

    A stage that `makes_model` leaves it in RUN/stages/NAME/model; one that `writes_conversations` leaves them in
    RUN/stages/NAME/conversations.jsonl.
    """

    config: type[StageConfig]
    module: str
    makes_model: bool = False
    writes_conversations: bool = False


KINDS: dict[str, Kind] = {
    "tokenizer": Kind(TokenizerConfig, "farthing.stages.tokenizer"),
    "pretrain": Kind(PretrainConfig, "farthing.stages.pretrain", makes_model=True),
    "sft": Kind(SftConfig, "farthing.stages.sft", makes_model=True),
    "grpo": Kind(GrpoConfig, "farthing.stages.grpo", makes_model=True),
    "student": Kind(StudentConfig, "farthing.stages.student", makes_model=True),
    "distill": Kind(DistillConfig, "farthing.stages.distill", makes_model=True),
    "rejection": Kind(RejectionConfig, "farthing.stages.rejection", writes_conversations=True),
    "evaluate": Kind(EvaluateConfig, "farthing.stages.evaluate"),
}
