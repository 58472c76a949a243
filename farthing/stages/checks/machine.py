"""Checks of what a step costs."""

from __future__ import annotations

from farthing.models.arithmetic import adapter_parameters, kv_bytes_per_token, learning_bytes
from farthing.models.config import ModelConfig
from farthing.stages.checks.evidence import Evidence, Finding
from farthing.stages.config.base import LoraTable

FULL, TIGHT = 1.0, 0.7


def memory(e: Evidence) -> Finding:
    """At most: masters, compute copy, gradients, optimizer, cache of all samples at full length, one micro-batch."""
    assert e.shape is not None
    config, samples = e.config, e.config.prompts_per_step * e.config.samples_per_prompt
    prompt = max(
        (len(group.prompt.token_ids) for group in e.groups), default=e.shape.max_position_embeddings // 2
    )
    tokens = samples * (prompt + config.max_new_tokens)
    needed = tokens * kv_bytes_per_token(e.shape, "float32")
    needed += learning_bytes(
        e.shape,
        min(tokens, config.microbatch_tokens),
        "bfloat16" if config.dtype == "bfloat16" else "float32",  # auto may become either
        learns=_learns(e.shape, config.lora),
        references=int(config.kl_coef > 0),
    )
    share = needed / e.memory_bytes
    measured = f"at most {needed / 2**30:.2g} GiB of {e.memory_bytes / 2**30:.3g}"
    if share > TIGHT:
        return Finding(measured, "refuse" if share > FULL else "warn", "a step needs "
                       + ("more memory than there is" if share > FULL else "nearly all the memory there is"),
                       "lower microbatch_tokens, samples_per_prompt or max_new_tokens")  # fmt: skip
    return Finding(measured)


def _learns(shape: ModelConfig, lora: LoraTable | None) -> int | None:
    """How many parameters learn; None for all."""
    if lora is None:
        return None
    return adapter_parameters(shape, lora.r, lora.target_modules, experts=lora.experts)


def duration(e: Evidence) -> Finding:
    step = sum(e.seconds.values())
    parts = ", ".join(f"{name} {seconds:.2g} s" for name, seconds in e.seconds.items())
    minutes = step * e.config.steps / 60
    return Finding(f"{step:.2g} s a step ({parts}): {e.config.steps} steps in about {minutes:.2g} min")
