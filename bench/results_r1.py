"""The tables of docs/results.md of finished runs of r1_tiny.toml: `python bench/results_r1.py RUN... [--json]`.

Reads each run's summary.json and the config.json of its models, and nothing else. A table for each run: every stage
that made a model, measured, and what the stage cost. Then, for all runs, what the pipeline is judged by: the last model
against R1-Zero, the students against their teacher, and the two ways of distillation against each other, where the cost
of fine-tuning is that of the teacher's samples as well. The last line of --json is one object with the same numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

from bench import results
from farthing.cli.summary import count, rate
from farthing.models.arithmetic import parameters
from farthing.models.sources import read_config, read_config_json

ZERO, FINAL, TAUGHT, TUNED, DISTILLED = "zero", "final_rl", "taught", "student_sft", "student_distill"
Summary = dict[str, Any]


def read(run: Path) -> Summary:
    summary = results.read(run)
    models = {name: run / "stages" / name / "model" for name in summary["evaluations"]}
    sizes = {name: parameters(read_config(read_config_json(path))).total for name, path in models.items()}
    return {**summary, "parameters": sizes}


def stage_rows(summary: Summary) -> list[list[str]]:
    """One row for each model: size, measures on each taskset, and what its stage took."""
    rows = []
    for name, found in summary["evaluations"].items():
        own = summary["cost"]["by_stage"][name]
        language = next((one for one in found.values() if "language" in one), {})
        cells = [rate(one, key) for one in found.values() for key in ("pass@1", "cons@16")]
        cells += [rate(language, "language"), count(language, "thinking_length")]
        cells += [f"{own['tokens'] / 1e6:.2f}M", f"{own['flops']:.2e}", f"{own['money']:.4f}"]
        rows.append([name, f"{summary['parameters'][name] / 1e6:.2f}M", *cells])
    return rows


def stage_header(summary: Summary) -> list[str]:
    tasks = [
        f"{task} {key}"
        for task in next(iter(summary["evaluations"].values()))
        for key in ("pass@1", "cons@16")
    ]
    cost = ["tokens", "FLOPs", f"cost, {summary['cost']['currency']}"]
    return ["stage", "parameters", *tasks, "language", "thinking", *cost]


def difference(summary: Summary, a: str, b: str, task: str, part: str | None = None) -> dict[str, Any]:
    """How b compares with a: the difference in pass@1, or in another part."""
    pair = next(c for c in summary["comparisons"] if (c["a"], c["b"], c["task"]) == (a, b, task))
    found: dict[str, Any] = pair if part is None else pair[part]
    return {name: found[name] for name in ("difference", "interval", "p_better")}


def kept(summary: Summary, student: str) -> dict[str, float]:
    """Which share of its teacher's pass@1 a student has, on each taskset and on their mean."""
    found = summary["evaluations"]
    pairs = {task: (found[student][task]["pass@1"], found[FINAL][task]["pass@1"]) for task in found[FINAL]}
    shares = {task: own / teachers for task, (own, teachers) in pairs.items()}
    return {**shares, "mean": mean(own for own, _ in pairs.values()) / mean(t for _, t in pairs.values())}


def verdict(summary: Summary) -> dict[str, Any]:
    """What the pipeline is judged by."""
    tasks, spent = list(summary["evaluations"][FINAL]), summary["cost"]["by_stage"]
    fine_tuning = spent[TAUGHT]["flops"] + spent[TUNED]["flops"]
    return {
        "seed": summary["seed"],
        "final_against_zero": {
            **{task: difference(summary, ZERO, FINAL, task) for task in tasks},
            "language": difference(summary, ZERO, FINAL, "words", "language"),
        },
        "size": summary["parameters"][TUNED] / summary["parameters"][FINAL],
        "kept": {student: kept(summary, student) for student in (TUNED, DISTILLED)},
        "tuned_against_distilled": {task: difference(summary, DISTILLED, TUNED, task) for task in tasks},
        "cost_of_distilled": spent[DISTILLED]["flops"] / fine_tuning,
        "wall_s": summary["wall_s"],
        "cpu_s": summary["cost"]["cpu_s"],
    }


def points(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return (
        f"{100 * found['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], p {found['p_better']:.2f}"
    )


def verdict_rows(verdicts: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each thing that is judged, a column for each seed."""
    rows = {}
    for name in verdicts[0]["final_against_zero"]:
        rows[f"{FINAL} - {ZERO}, {name}, points"] = [points(v["final_against_zero"][name]) for v in verdicts]
    rows["the student's share of the parameters"] = [f"{v['size']:.1%}" for v in verdicts]
    for student, shares in verdicts[0]["kept"].items():
        for task in shares:
            rows[f"{student} keeps, {task}"] = [f"{v['kept'][student][task]:.1%}" for v in verdicts]
    for task in verdicts[0]["tuned_against_distilled"]:
        told = [points(v["tuned_against_distilled"][task]) for v in verdicts]
        rows[f"{TUNED} - {DISTILLED}, {task}, points"] = told
    rows[f"FLOPs of {DISTILLED} / ({TAUGHT} + {TUNED})"] = [f"{v['cost_of_distilled']:.2f}" for v in verdicts]
    for name, unit in (("wall", "minutes"), ("cpu", "processor minutes")):
        rows[unit] = [f"{v[f'{name}_s'] / 60:.1f}" for v in verdicts]
    return [[name, *cells] for name, cells in rows.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    runs = [read(run) for run in given.runs]
    for summary in runs:
        cost = summary["cost"]
        print(
            f"Seed {summary['seed']} (cores: {summary['cores']:g}): {summary['wall_s'] / 60:.1f} minutes, "
            f"{cost['cpu_s'] / 60:.1f} processor minutes, "
            f"{summary['tokens'] / 1e6:.1f}M tokens, {summary['flops']:.2e} FLOPs, "
            f"{cost['money']:.4f} {cost['currency']}\n"
        )
        results.print_table(stage_header(summary), stage_rows(summary))
    verdicts = [verdict(summary) for summary in runs]
    results.print_table(["", *(f"seed {v['seed']}" for v in verdicts)], verdict_rows(verdicts))
    if given.json:
        print(json.dumps({"runs": verdicts, "processor": runs[0]["processor"], "cores": runs[0]["cores"]}))


if __name__ == "__main__":
    main()
