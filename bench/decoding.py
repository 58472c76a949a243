"""The parts of a decoding step, each compiled and plain, and whole steps with one or the other.

    python bench/decoding.py [--sizes 3M 12M] [--batches 64 256] [--threads N] [--json]

Both sides run in one process on the same tensors, in bfloat16 at a context of 256 tokens; parts are the best of seven,
whole steps the median of rounds in turn. `GFLOP/s` compares weights as PyTorch keeps them with packed ones. The first
line says how long the compiler took, if it was needed. The last line of --json is one object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bench.generators import Ours
from bench.measure import (
    best_seconds,
    interleaved,
    linear_flops,
    machine,
    medians,
    packed_flops,
    require_idle,
    seconds,
)
from bench.sizes import SIZES, random_model
from farthing.engine.slots import DecodeAttend, Slots
from farthing.models import fused
from farthing.models.attention import Attention
from farthing.models.config import ModelConfig
from farthing.models.layers import MLP, RMSNorm
from farthing.models.rope import inverse_frequencies, rotary_tables

CONTEXT, STEPS = 256, 16
Part = Callable[[], object]


@contextmanager
def only_plain(plain: bool) -> Iterator[None]:
    """With `plain`, as on a machine without a compiler."""
    compiled = fused.library
    if plain:
        fused.library = lambda: None  # type: ignore[assignment]
    try:
        yield
    finally:
        fused.library = compiled


def parts(config: ModelConfig, batch: int) -> dict[str, Part]:
    """What happens once a layer, between the products."""
    hidden, heads, keys = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
    stream, change = torch.randn(batch, 1, hidden), torch.randn(batch, 1, hidden).bfloat16()
    norm, attention = RMSNorm(hidden, 1e-6), Attention(config, 0)
    qk, new = (torch.randn(batch, 1, n, config.head_dim).bfloat16() for n in (heads + keys, keys))
    positions = torch.full((batch, 1), CONTEXT - 1)
    tables = rotary_tables(inverse_frequencies(config.rope, config.head_dim), positions, torch.bfloat16)
    slots = Slots(((keys, config.head_dim),) * 2, 1, torch.bfloat16)
    slots.reserve(batch, CONTEXT)
    query = qk[:, :, :heads]
    lengths = positions[:, 0].numpy()
    gate_up = torch.randn(batch, 1, 2 * config.intermediate_size).bfloat16()
    mlp = MLP(hidden, config.intermediate_size)
    mlp.gate_up = lambda x: gate_up  # type: ignore[assignment]
    mlp.down_proj = torch.nn.Identity()
    return {
        "residual and norm": lambda: norm.after(stream, change),
        "norm and rotation": lambda: attention._normed_and_turned(qk, *tables),
        "gate": lambda: mlp(gate_up),
        "attention": lambda: DecodeAttend(slots, lengths)(0, query, new, new, 0.125),
    }


def step_seconds(size: str, batch: int, plain: bool) -> float:
    with only_plain(plain):
        side = Ours(random_model(size), torch.bfloat16, batch)
        return side.decode_seconds(tuple(range(CONTEXT - STEPS // 2)), batch, STEPS) / STEPS


def measured(size: str, batch: int, rounds: int) -> dict[str, Any]:
    """One size at one batch, in microseconds; prints as it goes."""
    found: dict[str, Any] = {"size": size, "batch": batch}
    for name, part in parts(SIZES[size], batch).items():
        times = {}
        for side in ("compiled", "plain"):
            with only_plain(side == "plain"):
                times[side] = 1e6 * best_seconds(lambda part=part: [part() for _ in range(10)]) / 10
        found[name] = times
        print(f"{size:>4} {batch:4} {name:20} {times['compiled']:9.0f} {times['plain']:9.0f} us")
    shape = (SIZES[size].hidden_size, 2 * SIZES[size].intermediate_size)
    speeds = {
        name: speed(batch, *shape, torch.bfloat16)
        for name, speed in (("packed", packed_flops), ("linear", linear_flops))
    }
    found["product of gate and up, FLOP/s"] = speeds
    print(
        f"{size:>4} {batch:4} {'gate and up':20} {speeds['packed'] / 1e9:9.0f} {speeds['linear'] / 1e9:9.0f} GFLOP/s"
    )
    sides = {name: lambda p=name == "plain": step_seconds(size, batch, p) for name in ("compiled", "plain")}
    step = {name: 1e6 * spent for name, spent in medians(interleaved(sides, rounds)).items()}
    found["whole step"] = step
    print(
        f"{size:>4} {batch:4} {'whole step':20} {step['compiled']:9.0f} {step['plain']:9.0f} us", flush=True
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["3M", "12M"])
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    asked = parser.parse_args()
    require_idle(asked.force)
    torch.set_num_threads(asked.threads)
    compiling = seconds(fused.library)
    if fused.library() is None:
        raise SystemExit("bench: there is nothing to compare with: no C++ compiler was found")
    print(f"compiled and loaded in {compiling:.1f} s\nsize rows part                  compiled     plain")
    with torch.no_grad():
        cells = [measured(size, batch, asked.rounds) for size in asked.sizes for batch in asked.batches]
    if asked.json:
        print(json.dumps({"machine": machine(asked.threads), "compile_s": compiling, "cells": cells}))


if __name__ == "__main__":
    main()
