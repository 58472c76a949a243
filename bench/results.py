"""The table of docs/results.md from finished runs: `python bench/results.py RUN... [--control RUN...] [--json]`.

Reads each run's summary.json and nothing else. The last line of --json is one object with the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any


def read(run: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return summary


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """A table in Markdown and the empty line behind it."""
    for cells in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(cells) + " |")
    print()


def percent(evaluation: dict[str, Any] | None, key: str) -> str:
    """A rate and its interval in percent, or a dash."""
    if evaluation is None or key not in evaluation:
        return "-"
    low, high = evaluation.get(f"{key}_interval", (None, None))
    interval = "" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * evaluation[key]:.1f}%{interval}"


def row(summary: dict[str, Any]) -> list[str]:
    """One line of the table: what it was, what came of it, what it cost."""
    base, final = summary["evaluations"].get("base"), summary["evaluations"].get("final")
    cost = summary["cost"]
    return [
        summary["name"],
        str(summary["seed"]),
        percent(base, "pass@1"),
        percent(final, "pass@1"),
        percent(final, "pass@16"),
        percent(final, "cons@16"),
        f"{final['mean_length']:.0f}" if final else "-",
        percent(final, "truncated"),
        f"{summary['wall_s'] / 60:.1f} min",
        f"{summary['tokens'] / 1e6:.1f}M",
        f"{summary['flops']:.2e}",
        f"{cost['money']:.4f} {cost['currency']}",
    ]


HEADER = ["recipe", "seed", "base pass@1", "final pass@1", "final pass@16", "final cons@16", "mean length"]
HEADER += ["truncated", "wall time", "tokens", "FLOPs", "cost"]


def medians(summaries: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over seeds of what the runs are judged by."""
    found = [summary["evaluations"] for summary in summaries]
    result = {"final": statistics.median(each["final"]["pass@1"] for each in found)}
    if all("base" in each for each in found):
        result["base"] = statistics.median(each["base"]["pass@1"] for each in found)
        result["gain"] = statistics.median(each["final"]["pass@1"] - each["base"]["pass@1"] for each in found)
    result["wall_s"] = statistics.median(summary["wall_s"] for summary in summaries)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--control", nargs="*", type=Path, default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runs, control = [read(run) for run in arguments.runs], [read(run) for run in arguments.control]
    print_table(HEADER, [row(summary) for summary in [*runs, *control]])
    middle = {"speedrun": medians(runs)} | ({"control": medians(control)} if control else {})
    print("Medians: " + "; ".join(f"{name} {_said(values)}" for name, values in middle.items()))
    if arguments.json:
        print(json.dumps({**middle, "processor": runs[0]["processor"], "cores": runs[0]["cores"]}))


def _said(values: dict[str, float]) -> str:
    gain = f", {100 * values['gain']:+.1f} points over its base" if "gain" in values else ""
    return f"pass@1 {100 * values['final']:.1f}%{gain}, {values['wall_s'] / 60:.1f} minutes"


if __name__ == "__main__":
    main()
