"""The claim of a run: what was built, from what, what it gained, for how much."""

import math
from pathlib import Path
from typing import Any

from farthing.errors import CheckpointError
from farthing.models.headers import read_headers
from farthing.report.reading import Record, RunFiles, number, table

# Where an evaluation stands among the others; a stage's stands between, in the order of the summary.
PLACES = {"base": 0, "control": 2, "final": 3}


def evaluations(run: RunFiles) -> list[Record]:
    """Every evaluation as a flat row: the fields of `E` plus "model" (base, final, control or a stage's name).

    Both layouts of summary.json are read: {"base": E} and {stage: {taskset: E}}. A control stands in the summary
    under "control", as an E or as the control run's own summary. Before there is a summary, the evaluations that
    stages have finished count.
    """
    rows = _rows(table(run.summary.get("evaluations")))
    if not rows:
        rows = [row for stage in run.stage_names() for row in _rows(run.evaluated.get(stage, {}))]
    control = table(run.summary.get("control"))
    if control and not any(row["model"] == "control" for row in rows):
        inner = table(control.get("evaluations")) or table(control.get("evaluation"))
        final = (
            _rows({"control": inner["final"]}) if "final" in inner else _rows({"control": inner or control})
        )
        rows += final
    return sorted(rows, key=lambda row: PLACES.get(row["model"], 1))


def _rows(tree: Record) -> list[Record]:
    rows = []
    for model, value in tree.items():
        leaves = [value] if _is_evaluation(value) else list(table(value).values())
        rows += [{**leaf, "model": model} for leaf in leaves if _is_evaluation(leaf)]
    return rows


def _is_evaluation(value: Any) -> bool:
    return number(table(value).get("pass@1")) is not None


def interval(evaluation: Record, name: str = "pass@1") -> tuple[float, float] | None:
    """The interval of a rate, where it was written down as two numbers."""
    edges = evaluation.get(f"{name}_interval")
    if not isinstance(edges, list | tuple) or len(edges) != 2:
        return None
    low, high = (number(edge) for edge in edges)
    return None if low is None or high is None else (low, high)


def difference(before: Record, after: Record) -> Record:
    """{"value", "low", "high"} of after - before.

    The interval joins the two rates' own intervals by the square-and-add rule (Newcombe 1998, method 10), which
    takes the evaluations as independent: on the same problems that is wider than need be, never narrower in
    practice. Without both intervals there is none.
    """
    first, second = float(before["pass@1"]), float(after["pass@1"])
    gain: Record = {"value": second - first, "low": None, "high": None}
    edges = interval(before), interval(after)
    if edges[0] and edges[1]:
        gain["low"] = second - first - math.hypot(second - edges[1][0], edges[0][1] - first)
        gain["high"] = second - first + math.hypot(edges[1][1] - second, first - edges[0][0])
    return gain


def headline(run: RunFiles, rows: list[Record]) -> Record:
    """{"sentence", "task", "base", "final", "control", "gain", "lead"}; absent evaluations are None.

    While a run goes on, "final" is its latest held-out evaluation, marked "so_far".
    """
    by_model: dict[str, Record] = {}
    for row in rows:
        by_model.setdefault(row["model"], row)
    control = by_model.get("control")
    own = [row for model, row in by_model.items() if model != "control"]
    several = len(own) > 1 and not {"base", "final"} & set(by_model)  # every model by the stage that made it
    base = own[0] if several else by_model.get("base")
    final = own[-1] if several else by_model.get("final") or _latest(run)
    return {
        "task": _task(run, final or base),
        "sentence": _sentence(run, final or base),
        "base": base,
        "final": final,
        "control": control,
        "gain": difference(base, final) if base and final else None,
        "lead": difference(control, final) if control and final else None,
    }


def _latest(run: RunFiles) -> Record | None:
    for record in reversed(run.learning):
        rate = number(record.get("eval/pass@1"))
        if rate is not None:
            edges = [record.get("eval/pass@1_low"), record.get("eval/pass@1_high")]
            return {
                "model": f"step {record['step']}",
                "pass@1": rate,
                "pass@1_interval": edges,
                "so_far": True,
            }
    return None


def _task(run: RunFiles, evaluation: Record | None) -> str:
    several = " and ".join(table(run.recipe.get("tasks")))
    name = several or (evaluation or {}).get("task") or table(run.recipe.get("task")).get("name")
    return name if isinstance(name, str) else ""


def _sentence(run: RunFiles, evaluation: Record | None) -> str:
    """What was built and from what, in one sentence without a verdict; "" while nothing says."""
    model = table(run.recipe.get("model"))
    if not model and not run.model:
        return ""
    count = parameters(run.path / "model") or parameters(run.path / "base")
    kind = run.model.get("model_type") or model.get("model_type")
    size = f" of {_size(count)} parameters" if count else ""
    family = f" ({kind})" if isinstance(kind, str) else ""
    source = model.get("path")
    origin = f"starting from {source}" if isinstance(source, str) else "made from random weights"
    task = _task(run, evaluation)
    goal = f", learning to reason on {task}" if task else ""
    return f"A model{size}{family}, {origin}{goal}."


def _size(count: int) -> str:
    for unit, word in ((1e9, "billion"), (1e6, "million")):
        if count >= unit:
            return f"{count / unit:.3g} {word}"
    return f"{count:,}"


def parameters(folder: Path) -> int | None:
    """How many numbers the weights of a model directory hold, by their headers; None without readable ones."""
    try:
        return sum(math.prod(entry.shape) for entry in read_headers(folder).values()) or None
    except (CheckpointError, OSError):
        return None  # not written yet: the sentence does without the size
