"""What the run cost: seconds, tokens, FLOPs and money by stage and by kind of work, and what of it was wasted."""

from farthing.cost.totals import summarize
from farthing.errors import FarthingError
from farthing.report.reading import Record, RunFiles, number, table

WASTE_WORDS = {
    "dead_groups": "groups that taught nothing (all rewards equal)",
    "truncated": "samples cut off before an answer",
    "repeated": "work done again after a crash",
}


def costs(run: RunFiles) -> Record:
    """The ledger's totals with names for people; {} without a ledger.

    {"total", "by_stage": [row], "by_kind": [row], "waste": [row], "currency", "price", "cores", "attempts"}; a row
    is {"name", "wall_s", "cpu_s", "tokens", "flops", "money"}. Money is None where the recipe
    names no price.
    """
    if not run.ledger:
        return {}
    settings = table(run.recipe.get("cost"))
    price = number(settings.get("price_per_core_hour")) or None
    cores = _cores(run)
    try:
        totals = summarize(run.ledger, cores, price or 0.0)
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
        "mfu": number(table(run.summary.get("cost")).get("mfu")),
    }


def remaining(run: RunFiles, cost: Record) -> Record | None:
    """What the stage that is running will still take at the pace it had so far: {"stage", "wall_s", "money"}.

    None where no stage is running, or none of its steps is done. Stages that have not begun are in nobody's books.
    """
    stage = str(run.status.get("stage"))
    place = table(table(run.status.get("stages")).get(stage))
    done, steps = number(place.get("step")), number(place.get("steps"))
    spent = next((row for row in cost.get("by_stage", []) if row["name"] == stage), None)
    if run.status.get("state") != "running" or spent is None or not done or steps is None or steps <= done:
        return None
    share = (steps - done) / done
    times = {key: None if spent[key] is None else share * spent[key] for key in ("wall_s", "money")}
    return {"stage": stage, **times}


def _cores(run: RunFiles) -> float:
    """The cores of the last attempt, as its ledger says; one where nothing says."""
    known = [value for header in run.attempts if (value := number(header.get("cores"))) is not None]
    return known[-1] if known else number(table(run.summary.get("cost")).get("cores")) or 1.0


def _row(name: str, totals: Record, price: float | None) -> Record:
    row: Record = {"name": name}
    for key in ("wall_s", "cpu_s", "tokens", "flops"):
        row[key] = number(totals.get(key))
    row["money"] = None if price is None else number(totals.get("money"))
    return row
