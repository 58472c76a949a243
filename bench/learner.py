"""Tokens per second, share of the machine's peak and memory of a training step, `transformers` with AdamW beside it.

    python bench/learner.py [--json] [--quick] [--sizes 3M 12M] [--parts pretrain update]

Pretraining: 64 rows of 256 tokens. Update: 16 prompts of 126 tokens x 8 samples of 128, clipped ratio. The other side
is a plain loop: the same weights in `transformers`, bfloat16 autocast, `torch.optim.AdamW(fused=True)`, micro-batches
of 16 rows, logits of trained tokens alone. Each side in a fresh process, in turn, medians over rounds. MFU counts what
the step needs (a shared prompt once; `farthing.models.arithmetic`) over the best bfloat16 matrix product measured;
memory is the resident peak above what the imports had left. The last line of --json is one object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.nn.functional as F

from bench.measure import gemm_flops, machine, require_idle
from bench.sizes import SIZES, random_model, twin
from bench.turns import Side, after_imports, memory
from farthing.algorithms.losses import clipped_surrogate, cross_entropy
from farthing.data.sample import Sample
from farthing.learner.api import TokenLoss, Tokens
from farthing.learner.local import LocalLearner
from farthing.learner.optim import OptimSettings
from farthing.models.arithmetic import head_flops, linear_flops, pair_flops

ROWS, LENGTH = 64, 256
GROUPS, SAMPLES, PROMPT, COMPLETION = 16, 8, 126, 128
MICRO_BATCH = 16
OLD_LOGPROB = -6.9


@dataclass(frozen=True)
class Work:
    part: str
    size: str
    threads: int


def batch(part: str) -> list[Sample]:
    """Random tokens; every token after the first is trained on, or the completions are."""
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int, length: int) -> list[list[int]]:
        return torch.randint(1024, (rows, length), generator=generator).tolist()

    if part == "pretrain":
        return [Sample(row, 1, 1 / ROWS / LENGTH) for row in draw(ROWS, LENGTH + 1)]
    weight, old = 1 / (GROUPS * SAMPLES * COMPLETION), [OLD_LOGPROB] * COMPLETION
    return [
        Sample([*prompt, *completion], PROMPT, weight, float(index % 2) - 0.5, old)
        for prompt in draw(GROUPS, PROMPT)
        for index, completion in enumerate(draw(SAMPLES, COMPLETION))
    ]


def needed_flops(part: str, size: str) -> float:
    """Forward and backward of every token that has to be read, logits of those that are trained on."""
    config = SIZES[size]
    if part == "pretrain":
        tokens = trained = ROWS * LENGTH
        pairs = ROWS * LENGTH * (LENGTH + 1) / 2
    else:
        samples = GROUPS * SAMPLES
        tokens = GROUPS * PROMPT + samples * (COMPLETION - 1)
        trained = samples * COMPLETION
        pairs = GROUPS * PROMPT * (PROMPT + 1) / 2 + samples * (COMPLETION - 1) * (PROMPT + COMPLETION / 2)
    return 3 * (tokens * linear_flops(config) + pairs * pair_flops(config) + trained * head_flops(config))


def objective(part: str) -> Callable[[Tokens], TokenLoss]:
    if part == "pretrain":
        return lambda tokens: TokenLoss(cross_entropy(tokens.logprobs))
    return lambda tokens: TokenLoss(
        clipped_surrogate(tokens.logprobs, tokens.rollout_logprobs, tokens.advantages, 0.2, 0.2)[0]
    )


def answer(connection: Connection, baseline: int, step: Callable[[], object]) -> None:
    """(seconds, peak bytes) of a step for every message."""
    while connection.recv():
        began = time.perf_counter()
        step()
        connection.send((time.perf_counter() - began, memory("VmHWM") - baseline))


def ours(connection: Connection, work: Work) -> None:
    torch.set_num_threads(work.threads)
    baseline = after_imports()
    model, samples = random_model(work.size), batch(work.part)
    if work.part == "pretrain":
        model.head_dtype = torch.bfloat16
    learner = LocalLearner(
        model,
        OptimSettings(lr=1e-6),
        compute_dtype=torch.bfloat16,
        microbatch_tokens=6144 if work.part == "pretrain" else 1280,
        entropy=work.part != "pretrain",
    )
    answer(connection, baseline, lambda: learner.step(samples, objective(work.part)))


def theirs(connection: Connection, work: Work) -> None:
    torch.set_num_threads(work.threads)
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401  so that it is among the imports

    baseline = after_imports()
    model, samples = twin(random_model(work.size), torch.float32).train(), batch(work.part)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        for start in range(0, len(samples), MICRO_BATCH):
            rows = samples[start : start + MICRO_BATCH]
            ids_BT = torch.tensor([row.token_ids for row in rows])
            trained = rows[0].num_trained
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids_BT, use_cache=False, logits_to_keep=trained + 1).logits[:, :-1]
            nats = F.cross_entropy(logits.float().transpose(1, 2), ids_BT[:, -trained:], reduction="none")
            loss = nats
            if work.part == "update":
                advantages = torch.tensor([[row.advantage] for row in rows])
                loss = clipped_surrogate(-nats, torch.full_like(nats, OLD_LOGPROB), advantages, 0.2, 0.2)[0]
            (loss.sum() * rows[0].weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    answer(connection, baseline, step)


def cell(part: str, size: str, rounds: int, threads: int, peak: float) -> dict[str, Any]:
    """Both sides at one size."""
    work = Work(part, size, threads)
    sides = {"farthing": Side(ours, work), "transformers": Side(theirs, work)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    bytes_ = {}
    try:
        for round_ in range(rounds + 2):
            for name, side in sides.items():
                spent, bytes_[name] = side.step()
                if round_ >= 2:
                    times[name].append(spent)
    finally:
        for side in sides.values():
            side.close()
    tokens = sum(len(sample.token_ids) for sample in batch(part))
    found: dict[str, Any] = {"part": part, "size": size}
    for name, own in times.items():
        middle = statistics.median(own)
        found[name] = {
            "step_s": middle,
            "tokens_per_second": tokens / middle,
            "mfu": needed_flops(part, size) / middle / peak,
            "peak_bytes": bytes_[name],
        }
        print(
            f"{part:9} {size:>4} {name:13} {middle:6.2f} s {tokens / middle:8,.0f} tokens/s "
            f"MFU {found[name]['mfu']:4.0%} {bytes_[name] / 2**20:6,.0f} MiB",
            flush=True,
        )
    found["speed_ratio"] = found["transformers"]["step_s"] / found["farthing"]["step_s"]
    found["memory_ratio"] = found["transformers"]["peak_bytes"] / found["farthing"]["peak_bytes"]
    print(f"{'':14} faster {found['speed_ratio']:.2f}x, memory {found['memory_ratio']:.2f}x")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["3M", "12M"])
    parser.add_argument("--parts", nargs="+", choices=("pretrain", "update"), default=["pretrain", "update"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    asked = parser.parse_args()
    require_idle(asked.force)
    torch.set_num_threads(asked.threads)
    peak = gemm_flops(1024, 1024, 1024, torch.bfloat16)
    print(f"peak {peak / 1e9:,.0f} GFLOP/s")
    rounds = 2 if asked.quick else asked.rounds
    cells = [cell(part, size, rounds, asked.threads, peak) for size in asked.sizes for part in asked.parts]
    if asked.json:
        about = machine(asked.threads, "transformers")
        print(json.dumps({"machine": about, "gemm_flops": peak, "cells": cells}))


if __name__ == "__main__":
    main()
