"""Metrics as charts: which curves belong together, in what unit, and the points of each.

A chart is data here and drawn by static/chart.js. Points are [step, value] exactly as logged; where there are more
than MAX_POINTS, buckets keep their lowest and highest point (never an average) and the chart says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farthing.report.clock import elapsed, minutes
from farthing.report.reading import Record, RunFiles, number

MAX_POINTS = 4000
Points = list[list[float | None]]


@dataclass(frozen=True)
class Line:
    """One curve: the metric it shows, its name, how it is drawn (a style of charts.css) and its interval."""

    key: str
    label: str
    style: str = "a"
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Panel:
    """One chart. `unit` is "share" (0 to 1, shown in percent), "money" or any word; `more`: folded away at first.

    `zero`: the axis starts at zero. `kind` "stack" puts the curves on top of each other.
    """

    id: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    kind: str = "line"
    zero: bool = True
    more: bool = False


HELD_OUT = Line("eval/pass@1", "held-out problems", "a", "eval/pass@1_low", "eval/pass@1_high")
PANELS: tuple[Panel, ...] = (
    Panel("pass", "Held-out pass@1", "share", (HELD_OUT, Line("pass_rate", "training problems", "quiet"))),
    Panel("loss", "Loss", "nats per token", (Line("loss", "training"), Line("heldout_loss", "held out", "b")),
          zero=False),
    Panel("reward", "Reward", "mean of a step", (Line("reward", "reward"),)),
    Panel("length", "Completion length", "tokens",
          (Line("completions/mean_length", "training"), Line("eval/mean_length", "held out", "b"),
           Line("completions/mean_terminated_length", "finished ones", "quiet"))),
    Panel("entropy", "Entropy", "nats per token", (Line("entropy", "entropy"),)),
    Panel("dead", "Groups that teach nothing", "share", (Line("frac_reward_zero_std", "all rewards equal"),)),
    Panel("endings", "Without an answer", "share",
          (Line("completions/clipped_ratio", "truncated", "d"),
           Line("completions/unparsable_ratio", "unparsable", "b"),
           Line("completions/unscorable_ratio", "not scored", "c"))),
    Panel("gaming", "Signs of a gamed reward", "share",
          (Line("completions/flagged_ratio", "right ones with a flag", "b"),
           Line("completions/repetition", "4-grams that are repeated", "d"))),
    Panel("form", "Form of completions", "share",
          (Line("completions/format_error_ratio", "not in the asked form", "b"),
           Line("completions/broken_ratio", "ended for it", "d"),
           Line("completions/language_mix", "in several scripts", "c")), more=True),
    Panel("time", "Time of a step", "seconds",
          (Line("time/generate", "generate", "generate"), Line("time/train", "train", "train"),
           Line("time/score", "score", "score"), Line("time/other", "other", "other")), kind="stack"),
    Panel("spread", "Spread of rewards", "standard deviation", (Line("reward_std", "within a group"),), more=True),
    Panel("kl", "Distance to the reference", "nats per token", (Line("kl", "KL"),), more=True),
    Panel("clip", "Clipped tokens", "share", (Line("clip_ratio/region_mean", "clipped"),), more=True),
    Panel("mismatch", "Sampler against learner", "nats per token", (Line("mismatch/kl", "KL"),), more=True),
    Panel("ratio", "Sampler against learner, worst token", "ratio", (Line("mismatch/ratio_max", "ratio"),),
          zero=False, more=True),
    Panel("gradient", "Gradient norm", "before clipping", (Line("grad_norm", "norm"),), more=True),
    Panel("rate", "Learning rate", "per step", (Line("lr", "learning rate"),), more=True),
    Panel("speed", "Speed", "tokens per second", (Line("tokens_per_second", "tokens/s"),), more=True),
    Panel("mfu", "Model FLOPs utilisation", "share", (Line("mfu", "of the measured peak"),), more=True),
    Panel("pace", "Step time", "seconds", (Line("step_time", "step"),), more=True),
    Panel("longest", "Longest completion", "tokens", (Line("completions/max_length", "longest"),), more=True),
    Panel("money", "Cost so far", "money", (Line("cost/money", "money"),), more=True),
)  # fmt: skip
REWARD_PARTS = "rewards/"
UNSHOWN = ("stage", "step", "time", "num_tokens", "nonfinite", "cost/wall_s")
LARGE = ("pass", "loss")
"""The charts that answer what the page is opened for; a stage shows the first of them that it has in large."""
STYLES = ("a", "b", "c", "d")


def stage_charts(run: RunFiles, references: Sequence[Record]) -> list[Record]:
    """Every learning stage that logged metrics, {"name", "kind", "axis": {"step", "minutes", "tokens"}, "panels"}.

    `references` are horizontal lines {"label", "y", "low", "high"} for the chart of held-out pass@1.
    """
    clock = elapsed(run)
    stages = []
    for name in run.stage_names():
        records = _by_step([record for record in run.learning if record["stage"] == name])
        if not records:
            continue
        axis: Record = {
            "step": [record["step"] for record in records],
            "minutes": [minutes(record, clock) for record in records],
            "tokens": [number(record.get("num_tokens")) for record in records],
        }
        panels = _panels(records)
        for panel in panels:
            panel["references"] = list(references) if panel["id"] == "pass" else []
        stages.append({"name": name, "kind": run.kind(name), "axis": axis, "panels": panels})
    return stages


def _by_step(records: list[Record]) -> list[Record]:
    """One record per step, in order: several records of a step (training, then evaluation) become one."""
    merged: dict[float, Record] = {}
    for record in records:
        merged.setdefault(record["step"], {}).update(record)
    return [merged[step] for step in sorted(merged)]


def _panels(records: list[Record]) -> list[Record]:
    names = dict.fromkeys(name for record in records for name in record)
    parts = [name for name in names if name.startswith(REWARD_PARTS)]
    listed = [*PANELS[:3], _parts_panel(parts), *PANELS[3:]]
    known = {name for panel in listed for line in panel.lines for name in (line.key, line.low, line.high)}
    others = [name for name in names if name not in known and name not in UNSHOWN]
    listed += [
        Panel(f"other:{name}", name, "", (Line(name, name),), zero=False, more=True) for name in others
    ]
    drawn = [panel for panel in (_draw(panel, records) for panel in listed) if panel["series"]]
    if "reward" in names:
        _fold(drawn, "loss")  # of a policy gradient: its size says nothing about how well it goes
    large = next(
        (name for name in LARGE for panel in drawn if panel["id"] == name and not panel["more"]), None
    )
    return [{**panel, "large": panel["id"] == large} for panel in drawn]


def _fold(panels: list[Record], name: str) -> None:
    for panel in panels:
        panel["more"] = panel["more"] or panel["id"] == name


def _parts_panel(parts: list[str]) -> Panel:
    lines = [
        Line(key, key.removeprefix(REWARD_PARTS), STYLES[n % len(STYLES)]) for n, key in enumerate(parts)
    ]
    return Panel("parts", "Reward by part", "mean of a step", tuple(lines))


def _draw(panel: Panel, records: list[Record]) -> Record:
    series = []
    for line in panel.lines:
        points = points_of(records, line.key)
        if points:
            kept = thin(points, MAX_POINTS)
            entry: Record = {"key": line.key, "label": line.label, "style": line.style, "points": kept}
            entry["left_out"] = len(points) - len(kept)
            entry["band"] = _band(records, line)
            series.append(entry)
    return {"id": panel.id, "title": panel.title, "unit": panel.unit, "kind": panel.kind, "zero": panel.zero,
            "more": panel.more, "series": series}  # fmt: skip


def points_of(records: list[Record], key: str) -> Points:
    """[step, value] of every record that holds a number (or a null: a value that was not finite) under `key`."""
    return [[record["step"], number(record[key])] for record in records if key in record]


def _band(records: list[Record], line: Line) -> Points:
    if not line.low:
        return []
    edges = [
        (record["step"], number(record.get(line.low)), number(record.get(line.high))) for record in records
    ]
    return [[step, low, high] for step, low, high in edges if low is not None and high is not None]


def thin(points: Points, limit: int) -> Points:
    """At most about `limit` of the points: the first, the last, and of every bucket the lowest and the highest."""
    if len(points) <= limit:
        return points
    size = -(-2 * len(points) // limit)
    kept: Points = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        known = [point for point in bucket if point[1] is not None] or bucket[:1]
        extremes = [min(known, key=_height), max(known, key=_height)]
        ends = [point for point in (points[0], points[-1]) if point in bucket]
        holes = [point for point in bucket if point[1] is None][:1]
        kept += sorted(
            {id(p): p for p in (*extremes, *ends, *holes)}.values(), key=lambda point: point[0] or 0
        )
    return kept


def _height(point: list[float | None]) -> float:
    return point[1] or 0.0
