"""The end of a run: what it made, measured beside what it started from, what it cost, and what to type next."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from farthing.cli.progress import clock
from farthing.cli.typed import command

Record = Mapping[str, Any]

TITLES = {"base": "base", "final": "trained"}
_COUNTS = (("mean_length", "mean length, tokens"), ("thinking_length", "of that thinking"))
_SHARES = (
    ("language", "thinking in the question's language"),
    ("wrong", "wrong"),
    ("truncated", "truncated"),
    ("unparsable", "unparsable"),
    ("unscorable", "could not be scored"),
)


def print_summary(summary: Record, run_dir: Path, console: Console | None = None) -> None:
    """The table of evaluations, one line of cost, and the commands to type next."""
    console = console or Console(highlight=False)
    evaluations = summary.get("evaluations") or {}
    if evaluations:
        several = all("pass@1" not in found for found in evaluations.values())
        console.print(stage_table(summary) if several else evaluation_table(evaluations))
    console.print(cost_line(summary), markup=False)
    console.print("\nType next:")
    for typed, meaning in next_commands(summary, run_dir):
        console.print(f"  {typed}", markup=False, soft_wrap=True, end="")
        console.print(f"   # {meaning}", style="dim", markup=False, soft_wrap=True)


def evaluation_table(evaluations: Mapping[str, Record]) -> Table:
    """One column for each model, one row for each measure that any of them has."""
    first = next(iter(evaluations.values()))
    table = Table(title=f"held-out {first.get('task', 'problems')}, 95% intervals", title_justify="left")
    table.add_column("")
    for name in evaluations:
        table.add_column(TITLES.get(name, name), justify="right")
    for key, label, form in rows(evaluations):
        table.add_row(label, *(form(found, key) for found in evaluations.values()))
    return table


def stage_table(summary: Record) -> Table:
    """For each model, by the stage that made it, what that cost and a row for each taskset; fits 80 columns."""
    evaluations = summary["evaluations"]
    cost = summary.get("cost") or {}
    columns = _columns({key for found in evaluations.values() for own in found.values() for key in own})
    title = f"held-out problems, 95% intervals; cost in {cost.get('currency', 'money')}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("stage", overflow="fold")
    for heading in (*columns.values(), "tokens", "cost"):
        table.add_column(heading, justify="right", overflow="fold")
    for model, found in evaluations.items():
        own = (cost.get("by_stage") or {}).get(model)
        spent = (f"{own['tokens'] / 1e6:.2f}M", f"{own['money']:.4f}") if own else ("-", "-")
        table.add_row(model, *("" for _ in columns), *spent)
        for task, result in found.items():
            table.add_row(f"  {task}", *(_measure(result, key) for key in columns))
    return table


def _columns(keys: set[str]) -> dict[str, str]:
    """The heading of each measure that any model has: pass@1, the votes, language and length of thought."""
    votes = sorted((key for key in keys if re.fullmatch(r"cons@\d+", key)), key=_order)
    more = {"language": "language", "thinking_length": "thought"}
    return {key: more.get(key, key) for key in ("pass@1", *votes, *more) if key in keys}


def _measure(found: Record, key: str) -> str:
    if key == "thinking_length":
        return count(found, key)
    edges = found.get(f"{key}_interval") if key != "language" else None
    return share(found, key) + (f" {100 * edges[0]:.1f}\u2013{100 * edges[1]:.1f}" if edges else "")


def rows(evaluations: Mapping[str, Record]) -> list[tuple[str, str, Any]]:
    """(key, label, how it is written) of each measure, in reading order."""
    keys = {key for found in evaluations.values() for key in found}
    rates = sorted((key for key in keys if re.fullmatch(r"(pass|cons)@\d+", key)), key=_order)
    shown: list[tuple[str, str, Any]] = [(key, key, rate) for key in rates]
    shown += [(key, label, count) for key, label in _COUNTS if key in keys]
    shown += [(key, label, share) for key, label in _SHARES if key in keys]
    return shown


def _order(key: str) -> tuple[bool, int]:
    name, _, k = key.partition("@")
    return name == "cons", int(k)


def rate(found: Record, key: str) -> str:
    """A rate with its interval: `52.1% [49.8, 54.3]`."""
    value, edges = found.get(key), found.get(f"{key}_interval")
    if value is None:
        return "-"
    interval = f" [{100 * edges[0]:.1f}, {100 * edges[1]:.1f}]" if edges else ""
    return f"{100 * value:.1f}%{interval}"


def count(found: Record, key: str) -> str:
    return "-" if found.get(key) is None else f"{found[key]:.1f}"


def share(found: Record, key: str) -> str:
    return "-" if found.get(key) is None else f"{100 * found[key]:.1f}%"


def cost_line(summary: Record) -> str:
    """Time, tokens, FLOPs and money of all attempts together."""
    parts = [f"time {clock(summary['wall_s'])}"] if "wall_s" in summary else []
    parts += [f"tokens {summary['tokens']:,}"] if "tokens" in summary else []
    parts += [f"FLOPs {summary['flops']:.2e}"] if "flops" in summary else []
    cost = summary.get("cost") or {}
    if cost.get("money") is not None:
        parts.append(f"cost {cost['money']:.4f} {cost.get('currency', '')}".rstrip())
    return "   ".join(parts)


def next_commands(summary: Record, run_dir: Path) -> list[tuple[str, str]]:
    """(what to type, what for) after a run."""
    final = (summary.get("evaluations") or {}).get("final") or {}
    task = ("--task", final["task"]) if final.get("task") else ()
    return [
        (command("chat", run_dir), "talk to it"),
        (
            command("report", run_dir),
            f"writes {run_dir / 'report.html'} anew: how it learned and what it cost",
        ),
        (command("eval", run_dir, *task), "measure it again"),
    ]
