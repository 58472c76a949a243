"""A run directory made by code: plausible noisy curves that no model ever produced. Only the tests read it."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STARTED = 1_760_000_000.0
PRICE = 0.04
CORES = 2
MACHINE = {
    "processor": "Imaginary CPU @ 3 GHz",
    "cores": 2.0,
    "memory_bytes": 8 * 2**30,
    "bf16": True,
    "gemm_flops": 9.1e10,
    "gemm_flops_bf16": 2.2e11,
    "bandwidth": 0.0,
}
RECIPE: dict[str, Any] = {
    "name": "fixture",
    "seed": 7,
    "stages": ["tokenizer", "pretrain", "base_eval", "grpo", "final_eval"],
    "task": {"name": "countdown", "settings": {"numbers": 3}},
    "model": {"model_type": "qwen3", "hidden_size": 128, "num_hidden_layers": 6},
    "pretrain": {"tokens": 3_000_000},
    "base_eval": {"kind": "evaluate", "model": "base"},
    "grpo": {"steps": 240, "prompts_per_step": 32, "samples_per_prompt": 8},
    "final_eval": {"kind": "evaluate", "model": "final"},
    "cost": {"price_per_core_hour": PRICE, "currency": "EUR"},
}


class Clock:
    """Hands out times that move on with every phase, and writes the ledger of them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ledger: list[dict[str, Any]] = [{"attempt": 1, "started": STARTED, "cores": CORES}]

    def phase(self, stage: str, kind: str, wall: float, step: int | None = None, **more: Any) -> None:
        entry = {
            "attempt": 1,
            "stage": stage,
            "kind": kind,
            "step": step,
            "start_s": self.now,
            "wall_s": wall,
            "cpu_s": wall * 1.9,
            "tokens": 0,
            "flops": 0.0,
            "waste": {},
        }
        self.ledger.append(entry | more)
        self.now += wall

    def spent(self) -> dict[str, float]:
        """What the run adds to every record."""
        return {"cost/money": self.now / 3600 * CORES * PRICE, "cost/wall_s": self.now}

    @property
    def time(self) -> float:
        return STARTED + self.now


def interval(rate: float, n: int) -> list[float]:
    spread = 1.96 * math.sqrt(max(rate * (1 - rate), 1e-6) / n)
    return [max(0.0, rate - spread), min(1.0, rate + spread)]


def evaluation(rate: float, samples: int = 4) -> dict[str, Any]:
    return {
        "task": "countdown",
        "split": "heldout",
        "temperature": 1.0,
        "n": 500,
        "vote_n": 128,
        "unscorable": 0.0,
        "prompt_ids": [4, 17, 9],
        "samples": samples,
        "pass@1": rate,
        "pass@1_interval": interval(rate, 500),
        "pass@16": min(1.0, rate * 1.5 + 0.15),
        "pass@16_interval": interval(min(1.0, rate * 1.5 + 0.15), 128),
        "cons@16": min(1.0, rate * 1.15),
        "cons@16_interval": interval(min(1.0, rate * 1.15), 128),
        "mean_length": 96.0 - 30 * rate,
        "truncated": 0.031 * (1 - rate),
        "unparsable": 0.052 * (1 - rate),
    }


def learned(step: int) -> float:
    """The made-up truth: flat, then steep, then levelling off."""
    return 0.065 + 0.5 / (1 + math.exp(-(step - 90) / 26))


def pretrain(clock: Clock, rng: random.Random, steps: int) -> list[dict[str, Any]]:
    records = []
    for step in range(1, steps + 1):
        clock.phase("pretrain", "train", 0.9, step, tokens=10_000, flops=8.4e10)
        loss = 1.1 + 3.4 * math.exp(-step / 40) + rng.gauss(0, 0.03)
        record = {
            "stage": "pretrain",
            "step": step,
            "time": clock.time,
            "loss": loss,
            "lr": 0.003,
            "grad_norm": 0.5 + rng.random() / 3,
            "num_tokens": step * 10_000,
            "mfu": 0.47,
            "tokens_per_second": 11_000 + rng.gauss(0, 200),
            "step_time": 0.9,
        }
        if step % 20 == 0:
            record["heldout_loss"] = loss + 0.05
        records.append(record | clock.spent())
    return records


def grpo_record(clock: Clock, rng: random.Random, step: int) -> dict[str, Any]:
    rate = learned(step)
    seen = min(1.0, max(0.0, rate + rng.gauss(0, 0.035)))
    dead = min(1.0, max(0.0, (1 - rate) ** 8 + rate**8 + rng.gauss(0, 0.05)))
    length = 70 + 25 * math.exp(-step / 80) + 18 * rate + rng.gauss(0, 1.5)
    times = {
        "generate": 0.55 + 0.002 * length + rng.random() * 0.06,
        "score": 0.03 + rng.random() * 0.01,
        "train": 0.12 + 0.35 * (1 - dead) + rng.random() * 0.02,
        "other": 0.015,
    }
    for kind in ("generate", "score", "train"):
        tokens = int(256 * length) if kind != "score" else 0
        waste = (
            {"dead_groups": times[kind] * dead, "truncated": times[kind] * 0.03} if kind == "generate" else {}
        )
        clock.phase("grpo", kind, times[kind], step, tokens=tokens, flops=tokens * 3.1e6, waste=waste)
    clock.now += times["other"]
    return {
        "stage": "grpo",
        "step": step,
        "time": clock.time,
        "reward": seen + 0.1 * 0.97,
        "reward_std": 0.3,
        "frac_reward_zero_std": dead,
        "pass_rate": seen,
        "completions/mean_length": length,
        "completions/clipped_ratio": max(0.0, 0.03 * (1 - rate) + rng.gauss(0, 0.004)),
        "completions/unparsable_ratio": max(0.0, 0.05 * (1 - rate) + rng.gauss(0, 0.006)),
        "entropy": 0.75 - 0.35 * (step / (step + 90)) + rng.gauss(0, 0.012),
        "kl": 0.0004 * step,
        "clip_ratio/region_mean": abs(rng.gauss(0.004, 0.002)),
        "grad_norm": abs(rng.gauss(0.4, 0.1)),
        "lr": 6e-4,
        "step_time": sum(times.values()),
        **{f"time/{kind}": s for kind, s in times.items()},
        "num_tokens": step * (256 * 85),
        "tokens_per_second": 256 * length / times["generate"],
        "mismatch/kl": abs(rng.gauss(1e-6, 2e-7)),
        "mismatch/ratio_max": 1.001,
        "rewards/accuracy": seen,
        "rewards/format": 0.97,
        "loss": rng.gauss(0, 0.01),
        "completions/max_length": 150.0,
        "completions/unscorable_ratio": 0.0,
        **clock.spent(),
    }


def sample(rng: random.Random, problem: dict[str, Any], rate: float, chance: float) -> dict[str, Any]:
    a, b, c = problem["numbers"]
    tries = [
        f"{a} + {b} = {a + b}, then {a + b} - {c} = {a + b - c}, that is not {problem['target']}.",
        f"{a} x {b} = {a * b}, too far.",
        f"{b} - {c} = {b - c}, hmm, {b - c} + {a} = {a + b - c}.",
    ]
    thinking = "\n".join(rng.choices(tries, k=rng.randint(1, 5)))
    common = {"advantage": 0.0, "error": None, "finish_reason": "stop", "tokens": 8 + len(thinking) // 3}
    if chance < 0.04:
        return common | {
            "text": f"<think>{thinking}",
            "reward": 0.0,
            "correct": 0.0,
            "answer": None,
            "parts": {"accuracy": 0.0, "format": 0.0},
            "finish_reason": "length",
            "tokens": 160,
        }
    if chance < 0.09:
        return common | {
            "text": f"<think>{thinking}</think> I do not know",
            "reward": 0.0,
            "correct": 0.0,
            "parts": {"accuracy": 0.0, "format": 0.0},
            "answer": None,
        }
    right = rng.random() < rate
    answer = f"{a} + {b} - {c}" if right else f"{a} x {b} - {c}"
    return common | {
        "text": f"<think>{thinking}</think>\n<answer>{answer}</answer>",
        "reward": 1.1 if right else 0.1,
        "correct": 1.0 if right else 0.0,
        "parts": {"accuracy": float(right), "format": 1.0},
        "answer": answer.replace(" ", ""),
    }


def group(rng: random.Random, step: int) -> dict[str, Any]:
    """Eight attempts at one of twelve problems, some of which stay too hard."""
    index = rng.randrange(12)
    numbers = [3 + index, 1 + index * 5 % 19, 2 + index * 3 % 11]
    problem = {"numbers": numbers, "target": numbers[0] + numbers[1] - numbers[2]}
    rate = min(1.0, learned(step) * (0.1 if index > 9 else 1.6 - index / 9))
    samples = [sample(rng, problem, rate, rng.random()) for _ in range(8)]
    mean = sum(one["reward"] for one in samples) / len(samples)
    spread = math.sqrt(sum((one["reward"] - mean) ** 2 for one in samples) / len(samples)) or 1.0
    for one in samples:
        one["advantage"] = (one["reward"] - mean) / spread
    prompt = (
        f"<|user|>Use the numbers {numbers[0]}, {numbers[1]} and {numbers[2]}, each exactly once, with "
        f"+ - x and : to make {problem['target']}.<|end|>\n<|assistant|>"
    )
    return {"stage": "grpo", "step": step, "problem": problem, "prompt": prompt, "samples": samples}


def grpo(clock: Clock, rng: random.Random, steps: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    records, samples = [], []
    for step in range(1, steps + 1):
        record = grpo_record(clock, rng, step)
        if step % 20 == 0:
            rate = min(1.0, learned(step) - 0.01 + rng.gauss(0, 0.008))
            low, high = interval(rate, 256)
            clock.phase("grpo", "evaluate", 2.0, step, tokens=90_000, flops=2.8e11)
            record |= {
                "eval/pass@1": rate,
                "eval/pass@1_low": low,
                "eval/pass@1_high": high,
                "eval/mean_length": record["completions/mean_length"],
            }
        records.append(record)
        if step % 6 == 0 or step == 1:
            samples.extend(group(rng, step) for _ in range(2))
    return records, samples


def evaluate(path: Path, clock: Clock, stage: str, rate: float) -> dict[str, Any]:
    """An evaluation stage: its files, and the record it logs."""
    clock.phase(stage, "evaluate", 9.0, tokens=190_000, flops=5.9e11)
    folder = path / "stages" / stage
    folder.mkdir(parents=True)
    result = evaluation(rate)
    model = stage.removesuffix("_eval")
    (folder / "evaluations.json").write_text(json.dumps({model: {"countdown": result}}), encoding="utf-8")
    rng = random.Random(11)
    skills = [min(1.0, max(0.0, rng.gauss(rate, 0.6 * math.sqrt(rate * (1 - rate))))) for _ in range(500)]
    rates = [
        {
            "problem": {"numbers": [n // 25 + 1, n % 25 + 1, 7], "target": n % 90 + 1},
            "rate": sum(rng.random() < skill for _ in range(4)) / 4,
        }
        for n, skill in enumerate(skills)
    ]
    (folder / "problems.json").write_text(json.dumps({model: {"countdown": rates}}), encoding="utf-8")
    return {
        "stage": stage,
        "step": 1,
        "time": clock.time,
        "eval/pass@1": rate,
        "eval/n": 500,
        **clock.spent(),
    }


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_run(path: Path, *, steps: int = 240, pretrain_steps: int = 200, seed: int = 0) -> Path:
    """A finished run: pretraining, then RL of so many steps, with ledger, samples and summary."""
    rng, clock = random.Random(seed), Clock()
    path.mkdir(parents=True)
    clock.phase("tokenizer", "setup", 3.2)
    records = pretrain(clock, rng, pretrain_steps)
    records.append(evaluate(path, clock, "base_eval", 0.065))
    rl_records, samples = grpo(clock, rng, steps)
    final = evaluate(path, clock, "final_eval", learned(steps))
    write_lines(path / "metrics.jsonl", [*records, *rl_records, final])
    write_lines(path / "samples.jsonl", samples)
    write_lines(path / "ledger.jsonl", clock.ledger)
    stages = {name: {"state": "finished", "step": 0, "steps": 0} for name in RECIPE["stages"]}
    stages["grpo"] = {"state": "finished", "step": steps, "steps": steps}
    documents = {
        "config.json": {"fingerprint": "9f" * 32, "recipe": RECIPE, "version": "0.1.0", "created": STARTED},
        "status.json": {
            "state": "finished",
            "stage": "final_eval",
            "attempt": 1,
            "stages": stages,
            "message": "",
        },
        "summary.json": summary(clock, steps),
        "hardware.json": MACHINE,
    }
    for name, document in documents.items():
        (path / name).write_text(json.dumps(document), encoding="utf-8")
    (path / "recipe.toml").write_text('name = "fixture"\nseed = 7\n\n[grpo]\nsteps = 240\n', encoding="utf-8")
    return path


def summary(clock: Clock, steps: int) -> dict[str, Any]:
    wall = clock.now
    return {
        "stages": RECIPE["stages"],
        "evaluations": {"base": evaluation(0.065), "final": evaluation(learned(steps))},
        "control": evaluation(0.112),
        "wall_s": wall,
        "tokens": sum(e.get("tokens", 0) for e in clock.ledger),
        "flops": sum(e.get("flops", 0) for e in clock.ledger),
        "cost": {
            "money": wall / 3600 * CORES * PRICE,
            "currency": "EUR",
            "cores": CORES,
            "price_per_core_hour": PRICE,
        },
        "hardware": {"processor": "Imaginary CPU @ 3 GHz", "cores": CORES},
    }


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    return write_run


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run that the tests of this folder read and none of them changes."""
    return write_run(tmp_path_factory.mktemp("report") / "run")
