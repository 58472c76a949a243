"""A run directory as one JSON document: what the page shows, and all that it knows.

The page embeds this document; a server may hand out the same one for a run that is still going on.
"""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from farthing.report.alarms import alarms, final_state
from farthing.report.clock import elapsed
from farthing.report.costs import costs, remaining
from farthing.report.curves import stage_charts
from farthing.report.groups import browsable, listed, problems
from farthing.report.headline import evaluations, headline, interval
from farthing.report.heldout import held_out
from farthing.report.reading import Record, RunFiles, number, read_run, read_state, table

FORMAT = 1


def gather(run_dir: str | Path) -> Record:
    """The document of a run; raises RunError where there is no such directory."""
    return describe(read_run(run_dir))


def gather_live(run_dir: str | Path) -> Record:
    """The same for a page that can ask for samples step by step: all steps are named, and none is carried along."""
    run = read_run(run_dir)
    return describe(run, listed(run))


def describe(run: RunFiles, samples: Record | None = None) -> Record:
    """The document of what was read; every value in it is JSON. `samples`: by default as many as fit into a file."""
    rows = evaluations(run)
    claim = headline(run, rows)
    stages = stage_charts(run, references(claim))
    cost = costs(run)
    return {
        "format": FORMAT,
        "name": _name(run),
        "status": final_state(run),
        "stage_states": _stage_states(run),
        "headline": {**claim, **_spent(run, cost)},
        "evaluations": [row | _stage_cost(run, row["model"]) for row in rows],
        "comparisons": _comparisons(run),
        "stages": stages,
        "alarms": alarms(run),
        "samples": browsable(run) if samples is None else samples,
        "problems": problems(run),
        "held_out": held_out(run),
        "cost": cost,
        "remaining": remaining(run, cost),
        "recipe": run.recipe_text,
        "provenance": provenance(run),
        "notices": run.notices,
    }


def _stage_cost(run: RunFiles, stage: str) -> Record:
    """The tokens and the money of the stage that made a model, where it is called by that stage's name."""
    spent = table(table(table(run.summary.get("cost")).get("by_stage")).get(stage))
    return {
        f"stage_{key}": value for key in ("tokens", "money") if (value := number(spent.get(key))) is not None
    }


def glance(run_dir: str | Path) -> Record:
    """One line about a run: where it stands, and held-out pass@1 before and after, as far as known."""
    run = read_state(run_dir)
    claim = headline(run, evaluations(run))
    low, high = (interval(claim["final"]) if claim["final"] else None) or (None, None)
    rates = {name: number(table(claim[name]).get("pass@1")) for name in ("base", "final")}
    return {**final_state(run), **rates, "low": low, "high": high, "task": _task_name(run)}


def _task_name(run: RunFiles) -> str | None:
    name = table(run.recipe.get("task")).get("name")
    return name if isinstance(name, str) else None


def _name(run: RunFiles) -> str:
    name = run.recipe.get("name")
    return name if isinstance(name, str) and name else run.path.resolve().name


def references(claim: Record) -> list[Record]:
    """The lines to hold a learning curve against: the base before RL, and the control without it."""
    lines = []
    for key in ("base", "control"):
        if claim[key]:
            low, high = interval(claim[key]) or (None, None)
            lines.append({"label": key, "y": claim[key]["pass@1"], "low": low, "high": high})
    return lines


def _spent(run: RunFiles, cost: Record) -> Record:
    """Wall time, money, tokens and FLOPs of all attempts: from the summary when there is one, else the ledger."""
    total = table(cost.get("total"))
    wall = number(run.summary.get("wall_s"))
    money = number(table(run.summary.get("cost")).get("money"))
    return {
        "wall_s": wall if wall is not None else number(total.get("wall_s")) or _span(run),
        "money": money if money is not None else number(total.get("money")),
        "currency": str(cost.get("currency") or table(run.summary.get("cost")).get("currency") or ""),
        "cores": number(cost.get("cores")),
        "tokens": number(run.summary.get("tokens")) or number(total.get("tokens")),
        "flops": number(run.summary.get("flops")) or number(total.get("flops")),
        "energy_kwh": number(total.get("energy_kwh")),
        "core_hours": number(cost.get("core_hours")),
    }


def _span(run: RunFiles) -> float | None:
    times = [time for record in run.metrics if (time := number(record.get("time"))) is not None]
    return elapsed(run)(max(times)) if times else None


def _stage_states(run: RunFiles) -> list[Record]:
    states = table(run.status.get("stages"))
    return [
        {"name": name, "state": str(table(states.get(name)).get("state") or "waiting"),
         "step": number(table(states.get(name)).get("step")), "steps": number(table(states.get(name)).get("steps"))}
        for name in run.stage_names()
    ]  # fmt: skip


def _comparisons(run: RunFiles) -> list[Record]:
    """Each model with the one evaluated before it; the summary has all pairs."""
    listed = run.summary.get("comparisons")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    order = list(table(run.summary.get("evaluations")))
    before = dict(pairwise(order))
    return [row for row in rows if row.get("a") not in before or before[row["a"]] == row.get("b")]


def provenance(run: RunFiles) -> list[list[str]]:
    """[name, value] pairs: what somebody needs to make this run again, as far as the run wrote it down."""
    pairs: list[tuple[str, Any]] = [
        ("recipe", run.recipe.get("name")),
        ("seed", run.recipe.get("seed")),
        ("fingerprint", run.config.get("fingerprint")),
        ("farthing", run.config.get("version")),
        ("created", _date(run.config.get("created"))),
        ("attempts", number(run.status.get("attempt"))),
    ]
    machine = run.hardware
    pairs += [
        ("processor", machine.get("processor") or run.summary.get("processor")),
        ("cores", number(machine.get("cores")) or number(run.summary.get("cores"))),
        ("memory", _scaled(machine.get("memory_bytes"), 2**30, "GiB")),
        ("float32 products", _scaled(machine.get("gemm_flops"), 1e9, "GFLOP/s")),
        ("bfloat16 products", _scaled(machine.get("gemm_flops_bf16"), 1e9, "GFLOP/s")),
    ]
    return [
        [name, f"{value:g}" if isinstance(value, float) else str(value)]
        for name, value in pairs
        if value is not None
    ]


def _scaled(value: Any, unit: float, word: str) -> str | None:
    """A measurement in a unit for people; None where it was not made (0.0)."""
    known = number(value)
    return f"{known / unit:.3g} {word}" if known else None


def _date(created: Any) -> str | None:
    """Unix seconds as a date in UTC; anything else as it stands."""
    seconds = number(created)
    if seconds is None:
        return created if isinstance(created, str) else None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return str(created)
