"""What it saves to end samples once their reward is decided, and what it costs: runs with and without `stop_decided`.

    python bench/decided.py [--json] [--steps N] [--seeds N] [--bases tidy talkative careless] [--force]

`recipes/tiny.toml` with three bases: `tidy` as in the recipe; `talkative`, whose corpus is the same attempts, five to a
document and the end token only after the last, so that it goes on to the next question by itself; `careless`, after a
sixth of the pretraining, which often misses the form. From each base, reinforcement learning with the key and without,
the same seeds. Printed for each run: tokens drawn, seconds of sampling, of learning and of whole steps, the share of
samples that were ended for their form or cut off, pass rate on training problems (mean of the last fifth of the steps)
and held-out pass@1 of the last step, whose samples are never ended early.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.measure import machine, require_idle
from farthing.config import load_toml, to_toml
from farthing.data.countdown_student import CountdownStudent
from farthing.data.sources import SOURCES
from farthing.pipeline import run_recipe
from farthing.runs import metrics
from farthing.text.bpe import ASSISTANT, USER

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "tiny.toml"
BASES = ("tidy", "talkative", "careless")
SUMS = {
    "sampling_s": "time/generate",
    "learning_s": "time/train",
    "whole_s": "step_time",
}
MEANS = {"broken": "completions/broken_ratio", "cut off": "completions/clipped_ratio"}


class Talkative(CountdownStudent):
    """Five attempts a document, each with its question, as if they were one conversation without ends of turns."""

    def document(self, index: int) -> tuple[str, str]:
        (asked, first), *rest = (super(Talkative, self).document(5 * index + k) for k in range(5))
        return asked, first + "".join(f"{USER}{question}{ASSISTANT}{answer}" for question, answer in rest)


def bring_up(kind: str, seed: int, directory: Path) -> Path:
    """The base model of one kind."""
    recipe = load_toml(RECIPE) | {"name": kind, "seed": seed, "stages": ["tokenizer", "pretrain"]}
    if kind == "talkative":
        SOURCES["talkative"] = (Talkative, "countdown")
        recipe["pretrain"]["corpus"] |= {"source": "talkative"}
    if kind == "careless":
        recipe["pretrain"] |= {"steps": recipe["pretrain"]["steps"] // 6}
    _carry_out(recipe, directory, ("tokenizer", "pretrain"))
    return directory / "run" / "base"


def learn(base: Path, seed: int, steps: int, stop_decided: bool, directory: Path) -> dict[str, float]:
    """Reinforcement learning from `base`, and its numbers."""
    recipe = load_toml(RECIPE) | {"name": "rl", "seed": seed, "stages": ["grpo"]}
    recipe["model"] = {"path": os.path.abspath(base)}
    recipe["grpo"] |= {
        "steps": steps,
        "eval_every": steps,
        "eval_problems": 256,
        "checkpoint_every": steps,
        "preflight": "warn",
        "stop_decided": stop_decided,
    }
    _carry_out(recipe, directory, ("grpo",))
    rows = [r for r in metrics.read(directory / "run" / "metrics.jsonl") if "pass_rate" in r]
    recent = rows[-max(1, steps // 5) :]
    return {
        "tokens": rows[-1]["num_tokens"],
        **{name: sum(row[key] for row in rows) for name, key in SUMS.items()},
        **{name: statistics.fmean(row[key] for row in rows) for name, key in MEANS.items()},
        "pass_rate": statistics.fmean(row["pass_rate"] for row in recent),
        "format": statistics.fmean(row["rewards/format"] for row in recent),
        "held_out": rows[-1]["eval/pass@1"],
    }


def _carry_out(recipe: dict[str, Any], directory: Path, stages: tuple[str, ...]) -> None:
    kept = {key: value for key, value in recipe.items() if key not in ("base_eval", "final_eval")}
    for stage in ("tokenizer", "pretrain", "grpo"):
        if stage not in stages:
            kept.pop(stage)
    directory.mkdir(parents=True)
    (directory / "recipe.toml").write_text(to_toml(kept))
    run_recipe(directory / "recipe.toml", directory / "run")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bases", nargs="+", choices=BASES, default=BASES)
    parser.add_argument("--force", action="store_true", help="measure although others use the machine")
    given = parser.parse_args()
    require_idle(given.force)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in given.bases:
            for seed in range(given.seeds):
                here = Path(scratch) / f"{kind}{seed}"
                base = bring_up(kind, seed, here / "base")
                for key in (False, True):
                    row = learn(base, seed, given.steps, key, here / f"rl_{key}")
                    found.append({"base": kind, "seed": seed, "stop_decided": key, **row})
                    print(_line(found[-1]), flush=True)
    if given.json:
        print(json.dumps({**machine(torch.get_num_threads()), "runs": found}))


def _line(row: dict[str, Any]) -> str:
    named = [f"{row['base']:>9} seed {row['seed']} {'with' if row['stop_decided'] else 'without':>7}"]
    named += [f"{row['tokens']:>9,.0f} tokens"]
    named += [f"{name.removesuffix('_s')} {row[name]:.1f} s" for name in SUMS]
    return ", ".join(
        named + [f"{name} {row[name]:.1%}" for name in (*MEANS, "format", "pass_rate", "held_out")]
    )


if __name__ == "__main__":
    main()
