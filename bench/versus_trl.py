"""Reinforcement learning by farthing and by TRL's GRPOTrainer, at TRL's best settings: steps, memory, time to accuracy.

    python bench/versus_trl.py --base RUN/base [--json] [--quick]
    python bench/versus_trl.py --skip-accuracy [--sizes 3M 12M] [--lengths fixed natural] [--rounds N]

**Steps.** Qwen3-shaped models with random weights, 16 prompts of 126 tokens x 8 samples: completions of a fixed 128
tokens, and of natural length (mean near 64, at most 256). Each side runs in its own process with the same weights,
prompts, reward, loss, threads and allocator; see `bench/grpo_sides.py`. Every setting of TRL in `SETTINGS` is tried,
and what does not work is printed with its reason; its best is the one with the shortest step, for its memory the one
with the least. Then both sides take turns; medians over rounds. Where TRL was faster alone, in the sweep, than in turn,
that counts.

**Time to accuracy.** `bench/accuracy.py`: from the base model of a speedrun, three seeds; TRL has 15 minutes for each,
with every entry of `RATES` for the first and the best of them for the others. The measure is void where TRL gains less
than ten points.

--quick, under 40 minutes on two cores: two rounds; the whole sweep for the first cell, then its two fastest settings
and the leanest; one seed, six minutes and the first of `RATES`.

Ratios above 1 are in farthing's favour; the headline is the worst cell, or the worst seed. The last line of --json is
one object; a ratio that was not measured, or whose measure is void, is null.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

from bench import accuracy
from bench.grpo_sides import Step, Work, ours, trl
from bench.measure import machine, require_idle
from bench.turns import Side

LENGTHS = {"fixed": (128, False), "natural": (256, True)}
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {"micro_batch": 32, "bf16": False},
    "bf16 autocast": {"micro_batch": 16, "bf16": True},
    "bf16 autocast, compiled": {"micro_batch": 16, "bf16": True, "torch_compile": True},
    "bf16 autocast, static cache": {"micro_batch": 16, "bf16": True, "cache_implementation": "static"},
    "bf16 weights": {"micro_batch": 16, "bf16": False, "weights": "bfloat16"},
    "bf16 weights, compiled": {
        "micro_batch": 16,
        "bf16": False,
        "weights": "bfloat16",
        "torch_compile": True,
    },
    "bf16 weights, static cache": {
        "micro_batch": 16,
        "bf16": False,
        "weights": "bfloat16",
        "cache_implementation": "static",
    },
    "bf16 weights, continuous batching": {
        "micro_batch": 16,
        "bf16": False,
        "weights": "bfloat16",
        "use_transformers_continuous_batching": True,
    },
}
SWEEP_DEADLINE_S = 150.0
"""A setting whose step takes longer is not TRL's best."""
AUTOCAST = SETTINGS["bf16 autocast, static cache"]
RATES: dict[str, tuple[float, dict[str, Any]]] = {
    "bf16 autocast, 3e-4": (3e-4, AUTOCAST),
    "bf16 autocast, 1e-3": (1e-3, AUTOCAST),
    "bf16 weights, 1e-3": (1e-3, SETTINGS["bf16 weights"]),
}
"""Learning rates and settings that TRL may choose from; --quick takes the first."""
QUICK_MINUTES, MINUTES, SEEDS = 6.0, 15.0, (0, 1, 2)


def sweep(work: Callable[[dict[str, Any]], Work], names: list[str]) -> dict[str, Step]:
    """The second step of TRL with each setting; one that fails says why and is left out."""
    found = {}
    for name in names:
        side = Side(trl, work(SETTINGS[name]))
        try:
            side.step(SWEEP_DEADLINE_S)
            found[name] = side.step(SWEEP_DEADLINE_S)
            print(
                f"  TRL, {name:33} {found[name].step_s:6.2f} s, generation {found[name].generate_s:5.2f} s",
                flush=True,
            )
        except (EOFError, TimeoutError, OSError) as problem:
            print(f"  TRL, {name:33} failed: {type(problem).__name__} {problem}", flush=True)
        finally:
            side.close()
    return found


def cell(size: str, lengths: str, rounds: int, names: list[str], threads: int) -> dict[str, Any]:
    """Both sides at one size and one kind of length."""
    limit, natural = LENGTHS[lengths]

    def work(settings: dict[str, Any]) -> Work:
        return Work(size, limit, natural, threads, settings)

    tried = sweep(work, names)
    best = min(tried, key=lambda name: tried[name].step_s)
    steps: dict[str, list[Step]] = {"farthing": [], "trl": []}
    sides = {"farthing": Side(ours, work({})), "trl": Side(trl, work(SETTINGS[best]))}
    try:
        for round_ in range(rounds + 1):
            for name, side in sides.items():
                step = side.step()
                if round_:
                    steps[name].append(step)
    finally:
        for side in sides.values():
            side.close()
    raw = {name: summary(own) for name, own in steps.items()}
    least = min(step.peak_bytes for step in [*tried.values(), *steps["trl"]])
    fastest_rollout = max(step.tokens / step.generate_s for step in [*tried.values(), *steps["trl"]])
    return {
        "size": size,
        "lengths": lengths,
        "trl_setting": best,
        **raw,
        "tried": {name: vars(step) for name, step in tried.items()},
        "rollout_ratio": raw["farthing"]["tokens_per_second"] / max(fastest_rollout, 1e-9),
        "step_ratio": min(per_token(steps["trl"]), per_token([tried[best]])) / per_token(steps["farthing"]),
        "memory_ratio": least / raw["farthing"]["peak_bytes"],
    }


def per_token(steps: list[Step]) -> float:
    """Median seconds of a step over its tokens: natural lengths differ a little between sides, work should not."""
    return statistics.median(step.step_s / step.tokens for step in steps)


def summary(steps: list[Step]) -> dict[str, float]:
    return {
        "step_s": statistics.median(step.step_s for step in steps),
        "generate_s": statistics.median(step.generate_s for step in steps),
        "tokens": statistics.mean(step.tokens for step in steps),
        "tokens_per_second": statistics.median(step.tokens / step.generate_s for step in steps),
        "peak_bytes": max(step.peak_bytes for step in steps),
    }


def show(found: dict[str, Any]) -> dict[str, Any]:
    for name in ("farthing", "trl"):
        own = found[name]
        print(
            f"{found['size']:>4} {found['lengths']:8} {name:9} {own['step_s']:7.2f} s/step "
            f"({own['generate_s']:.2f} + {own['step_s'] - own['generate_s']:.2f}) "
            f"{own['tokens_per_second']:9,.0f} tokens/s {own['peak_bytes'] / 2**20:7,.0f} MiB"
        )
    ratios = ", ".join(
        f"{name.removesuffix('_ratio')} {found[name]:.2f}x"
        for name in ("rollout_ratio", "step_ratio", "memory_ratio")
    )
    print(f"     {ratios}; TRL at its best: {found['trl_setting']}", flush=True)
    return found


def cells(asked: argparse.Namespace, rounds: int) -> list[dict[str, Any]]:
    """Every size and length that was asked for."""
    found: list[dict[str, Any]] = []
    names = asked.settings
    for size in asked.sizes:
        for lengths in asked.lengths:
            found.append(show(cell(size, lengths, rounds, names, asked.threads)))
            if asked.quick and len(found) == 1:
                names = worthwhile(found[0]["tried"])
                print(f"  from here on TRL is tried with {', '.join(names)}", flush=True)
    return found


def worthwhile(tried: dict[str, dict[str, Any]]) -> list[str]:
    """The two fastest settings and the leanest."""
    fastest = sorted(tried, key=lambda name: tried[name]["step_s"])[:2]
    leanest = min(tried, key=lambda name: tried[name]["peak_bytes"])
    return list(dict.fromkeys([*fastest, leanest]))


def races(base: str, minutes: float, seeds: tuple[int, ...], names: list[str]) -> list[dict[str, Any]]:
    """Time to accuracy, one seed after the other."""
    found: list[dict[str, Any]] = []
    for seed in seeds:
        print(f"accuracy, seed {seed}", flush=True)
        tried = [(name, *RATES[name]) for name in names]
        found.append(accuracy.run(accuracy.Race(base, seed, minutes), tried))
        names = [found[0]["best"]]
    return found


def headline(cells: list[dict[str, Any]], races: list[dict[str, Any]]) -> dict[str, float | None]:
    """The worst of everything; null where any part of it is."""
    names = ("rollout_ratio", "step_ratio", "memory_ratio")
    worst: dict[str, float | None] = {
        name: min((found[name] for found in cells), default=None) for name in names
    }
    ratios = [race["ratio"] for race in races]
    worst["time_to_accuracy_ratio"] = None if not ratios or None in ratios else min(ratios)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", metavar="MODEL_DIR", help="the base model of a speedrun: RUN/base")
    parser.add_argument("--skip-accuracy", action="store_true", help="steps and memory alone")
    parser.add_argument("--sizes", nargs="*", choices=("3M", "12M"), default=["3M", "12M"])
    parser.add_argument("--lengths", nargs="+", choices=list(LENGTHS), default=list(LENGTHS))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--rates", nargs="+", choices=list(RATES), help="what TRL tries for accuracy")
    parser.add_argument("--minutes", type=float, help="of TRL's training for each of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    asked = parser.parse_args()
    if not asked.base and not asked.skip_accuracy:
        parser.error("time to accuracy needs --base RUN/base, or leave it out with --skip-accuracy")
    require_idle(asked.force)
    found = cells(asked, 2 if asked.quick else asked.rounds)
    raced: list[dict[str, Any]] = []
    if not asked.skip_accuracy:
        minutes = asked.minutes or (QUICK_MINUTES if asked.quick else MINUTES)
        names = asked.rates or list(RATES)[: 1 if asked.quick else None]
        raced = races(asked.base, minutes, SEEDS[:1] if asked.quick else SEEDS, names)
    if asked.json:
        about = machine(asked.threads, "trl", "transformers", "accelerate")
        print(json.dumps({**headline(found, raced), "machine": about, "cells": found, "races": raced}))


if __name__ == "__main__":
    main()
