"""Rotary position settings between `config.json` and `RopeConfig`.

Two spellings are in use: `rope_theta` beside `rope_scaling` (every released checkpoint), and since transformers 5 one
object `rope_parameters`. Both are read; the first is written, because everything reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farthing.errors import CheckpointError

SCALING = {
    "default": (),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "attention_factor",
    ),
}
NEEDED = ("factor", "original_max_position_embeddings")
# Keys that say nothing as long as they have these values.
HARMLESS = {"partial_rotary_factor": 1.0, "truncate": True}


def read_rope(data: Mapping[str, Any], default_theta: float = 10000.0) -> dict[str, Any]:
    """Fields of `RopeConfig`, given in a `config.json`; raises CheckpointError for a scaling that is not known."""
    scaling = dict(data.get("rope_parameters") or data.get("rope_scaling") or {})
    theta = scaling.pop("rope_theta", None) or data.get("rope_theta") or default_theta
    kinds = [scaling.pop(key, None) for key in ("rope_type", "type")]
    kind = kinds[0] or kinds[1] or "default"
    if kind not in SCALING:
        known = ", ".join(sorted(SCALING))
        raise CheckpointError(f"config.json: rope type {kind!r} is not supported, only {known}")
    for key in NEEDED if kind != "default" else ():
        if not isinstance(scaling.get(key), int | float):
            raise CheckpointError(f"config.json: {key} is missing from the rope scaling {kind!r}")
    for key, value in scaling.items():
        if key not in SCALING[kind] and value not in (None, HARMLESS.get(key)):
            raise CheckpointError(
                f"config.json: {key} = {value!r} in the rope scaling {kind!r} is not supported"
            )
    given = {key: scaling[key] for key in SCALING[kind] if scaling.get(key) is not None}
    return {"rope_theta": float(theta), "rope_type": kind, **given}


def write_rope(rope: Any) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` as released checkpoints spell them."""
    if rope.rope_type == "default":
        return {"rope_theta": rope.rope_theta, "rope_scaling": None}
    fields = {key: getattr(rope, key) for key in SCALING[rope.rope_type]}
    scaling = {key: value for key, value in fields.items() if value is not None}
    return {"rope_theta": rope.rope_theta, "rope_scaling": {"rope_type": rope.rope_type, **scaling}}
