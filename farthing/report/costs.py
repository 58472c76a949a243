"""What the run cost: seconds, tokens, FLOPs, energy and money by stage and by kind of work, and what was wasted."""

from farthing.cost.hardware import watts_per_core
from farthing.cost.totals import JOULES_PER_KWH, recent_step, summarize
from farthing.errors import FarthingError
from farthing.report.reading import Record, RunFiles, number, table

WASTE_WORDS = {
    "dead_groups": "groups that taught nothing (all rewards equal)",
    "truncated": "samples cut off before an answer",
    "repeated": "work done again after a crash",
}


def costs(run: RunFiles) -> Record:
    """The ledger's totals with names for people; {} without a ledger.

    {"total", "by_stage": [row], "by_kind": [row], "waste": [row], "currency", "price", "cores", "attempts",
    "core_hours", "watts", "watts_source"}; a row is {"name", "wall_s", "cpu_s", "tokens", "flops", "energy_kwh",
    "money"}. Money is None where the recipe names no price; energy is an estimate, processor time x watts.
    """
    if not run.ledger:
        return {}
    settings = table(run.recipe.get("cost"))
    price = number(settings.get("price_per_core_hour")) or None
    cores = _cores(run)
    try:
        watts, source = _watts(run)
        totals = summarize(run.ledger, cores, price or 0.0, watts=watts)
    except FarthingError as problem:
        run.notices.append(f"ledger.jsonl: {problem}")
        return {}
    return {
        "total": _row("total", totals, price),
        "by_stage": [_row(name, row, price) for name, row in totals["by_stage"].items()],
        "by_kind": [_row(name, row, price) for name, row in totals["by_kind"].items()],
        "waste": [_row(WASTE_WORDS.get(name, name), row, price) for name, row in totals["waste"].items()],
        "currency": str(settings.get("currency") or ""),
        "price": price,
        "cores": cores,
        "attempts": totals["attempts"],
        "core_hours": totals["wall_s"] * cores / 3600,
        "watts": watts,
        "watts_source": source,
        "mfu": number(table(run.summary.get("cost")).get("mfu")),
    }


def remaining(run: RunFiles, cost: Record) -> Record | None:
    """What the stage that is running will still take: its steps left x its recent step, {"stage", "wall_s", "money",
    "energy_kwh"}; a step costs what each of the last steps of this attempt has cost, all between them included.

    None where no stage is running, or none of its steps is done. Stages that have not begun are in nobody's books.
    """
    stage = str(run.status.get("stage"))
    place = table(table(run.status.get("stages")).get(stage))
    done, steps = number(place.get("step")), number(place.get("steps"))
    pace = recent_step(run.ledger, stage) if cost else None
    if run.status.get("state") != "running" or pace is None or not done or steps is None or steps <= done:
        return None
    wall, price = (steps - done) * pace["wall_s"], cost["price"]
    return {
        "stage": stage,
        "wall_s": wall,
        "money": None if price is None else wall * cost["cores"] / 3600 * price,
        "energy_kwh": (steps - done) * pace["cpu_s"] * cost["watts"] / JOULES_PER_KWH,
    }


def _watts(run: RunFiles) -> tuple[float, str]:
    """Watts of a busy core, and where the figure comes from."""
    own = number(table(run.recipe.get("cost")).get("watts_per_core"))
    name = str(run.hardware.get("processor") or run.summary.get("processor") or "")
    return (own, "the recipe's cost.watts_per_core") if own else watts_per_core(name)


def _cores(run: RunFiles) -> float:
    """The cores of the last attempt, as its ledger says; one where nothing says."""
    known = [value for header in run.attempts if (value := number(header.get("cores"))) is not None]
    return known[-1] if known else number(table(run.summary.get("cost")).get("cores")) or 1.0


def _row(name: str, totals: Record, price: float | None) -> Record:
    row: Record = {"name": name}
    for key in ("wall_s", "cpu_s", "tokens", "flops", "energy_kwh"):
        row[key] = number(totals.get(key))
    row["money"] = None if price is None else number(totals.get("money"))
    return row
