"""Held-out problems one by one: how often each is solved, before and after.

Read from stages/NAME/problems.json where an evaluation left it: {model: {taskset: a list}} of {"problem": {..},
"rate": 0 to 1}, in the same order for every evaluation of a run.
"""

import json
from typing import Any

from farthing.report.groups import title
from farthing.report.reading import Record, RunFiles, number, table

BUCKETS = ("never", "up to 25%", "up to 50%", "up to 75%", "under 100%", "always")
MAX_ROWS = 600


def held_out(run: RunFiles) -> Record:
    """{"models": [..], "buckets": [not empty ones], "counts": [[per bucket] per model], "rows": [{"title", "rates"}]}.

    Rows are in order of what was gained between the first model and the last, most first; {} without the files.
    """
    tables: dict[str, dict[str, float]] = {}
    titles: dict[str, str] = {}
    for stage in run.stage_names():
        for model, tasks in run.problems.get(stage, {}).items():
            lists = [entries for entries in table(tasks).values() if isinstance(entries, list)]
            rates = _rates([entry for entries in lists for entry in entries], titles)
            if rates:
                tables[model] = tables.get(model, {}) | rates
    if not tables:
        return {}
    columns = list(tables.values())
    rows: list[Record] = [
        {"title": titles[key], "rates": [column.get(key) for column in columns]} for key in columns[0]
    ]
    rows.sort(key=lambda row: -_gained(row["rates"]))
    counts = [[sum(bucket(rate) == place for rate in column.values()) for place in range(len(BUCKETS))]
              for column in columns]  # fmt: skip
    used = [place for place in range(len(BUCKETS)) if any(own[place] for own in counts)]
    return {
        "models": list(tables),
        "buckets": [BUCKETS[place] for place in used],
        "counts": [[own[place] for place in used] for own in counts],
        "rows": rows[:MAX_ROWS],
    }


def _rates(entries: list[Any], titles: dict[str, str]) -> dict[str, float]:
    """Rate by problem (as canonical JSON), and into `titles` what each is called."""
    rates = {}
    for entry in entries:
        problem, rate = table(table(entry).get("problem")), number(table(entry).get("rate"))
        if rate is not None:
            key = json.dumps(problem, sort_keys=True)
            rates[key], titles[key] = rate, title(problem)
    return rates


def _gained(rates: list[float | None]) -> float:
    first, last = rates[0], rates[-1]
    return 0.0 if first is None or last is None else last - first


def bucket(rate: float) -> int:
    """The place in BUCKETS of a rate."""
    if rate <= 0 or rate >= 1:
        return 0 if rate <= 0 else len(BUCKETS) - 1
    return next(n for n, edge in enumerate((0.25, 0.5, 0.75, 1.0), start=1) if rate <= edge)
