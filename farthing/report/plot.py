"""One picture of a run for a README: held-out pass@1 over the whole run, beside its base and its control.

A static SVG without script or font, drawn for light and dark pages alike. The time axis begins where the run began, so
that pretraining is seen to be paid for.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

from farthing.errors import UserError
from farthing.report.clock import elapsed, minutes
from farthing.report.gather import describe
from farthing.report.headline import interval
from farthing.report.page import bundle
from farthing.report.reading import Record, RunFiles, number, read_run
from farthing.runs.files import write_atomic

Axis = Literal["minutes", "tokens"]
STYLES = ("plot.css",)
WIDTH, HEIGHT = 880, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 100, 78, 58


@dataclass(frozen=True)
class Frame:
    """The data's extent and how it falls on the picture."""

    x_max: float
    y_max: float

    def x(self, value: float) -> float:
        return round(LEFT + value / self.x_max * (WIDTH - LEFT - RIGHT), 2)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - value / self.y_max * (HEIGHT - TOP - BOTTOM), 2)


def write_plot(run_dir: str | Path, out_svg: str | Path, *, axis: Axis = "minutes") -> Path:
    """Draw held-out pass@1 over wall time (or tokens, pretraining's included) and return the file's path.

    Raises RunError where there is no such run and UserError while it has no held-out evaluation to draw.
    """
    run = read_run(run_dir)
    document = describe(run)
    points = learning_curve(run, axis)
    if not points:
        raise UserError(f"{run_dir}: no held-out evaluation yet; a plot needs eval/pass@1 in metrics.jsonl")
    target = Path(out_svg)
    write_atomic(target, _svg(document, phases(run, axis), points, axis), durable=False)
    return target


def learning_curve(run: RunFiles, axis: Axis) -> list[list[float | None]]:
    """[x, rate, low, high] of every held-out evaluation, x counted over the whole run."""
    position = _positions(run, axis)
    points: list[list[float | None]] = []
    for record in run.learning:
        rate, x = number(record.get("eval/pass@1")), position(record)
        if rate is not None and x is not None:
            edges = (number(record.get(f"eval/pass@1_{end}")) for end in ("low", "high"))
            points.append([x, rate, *edges])
    return sorted(points, key=lambda point: point[0] or 0.0)


def phases(run: RunFiles, axis: Axis) -> list[tuple[str, float, float]]:
    """(stage, from, to) of every stage that logged metrics, on the picture's axis."""
    position = _positions(run, axis)
    spans: dict[str, list[float]] = {}
    for record in run.learning:
        x = position(record)
        if x is not None:
            spans.setdefault(record["stage"], []).append(x)
    ends = [(name, min(xs), max(xs)) for name, xs in spans.items()]
    return [(name, 0.0 if n == 0 else ends[n - 1][2], high) for n, (name, _, high) in enumerate(ends)]


def _positions(run: RunFiles, axis: Axis) -> Any:
    """A function from a record to its place; tokens of earlier stages are added to a stage's own count."""
    if axis == "minutes":
        clock = elapsed(run)
        return lambda record: minutes(record, clock)
    before: dict[str, float] = {}
    total = 0.0
    for name in run.stage_names():
        before[name] = total
        counts = [number(r.get("num_tokens")) or 0.0 for r in run.learning if r["stage"] == name]
        total += max(counts, default=0.0)

    def place(record: Record) -> float | None:
        tokens = number(record.get("num_tokens"))
        return None if tokens is None else before[record["stage"]] + tokens

    return place


def _svg(document: Record, spans: list[Any], points: list[Any], axis: Axis) -> str:
    claim = document["headline"]
    x_max = max([point[0] for point in points] + [high for _, _, high in spans])
    if axis == "minutes" and claim["wall_s"]:
        x_max = max(x_max, claim["wall_s"] / 60)
    rates = [value for point in points for value in point[1:] if value is not None]
    rates += [claim[key]["pass@1"] for key in ("base", "control", "final") if claim[key]]
    frame = Frame(x_max if x_max > 0 else 1.0, min(1.0, math.ceil(min(1.0, max(rates)) * 10 + 0.3) / 10))
    begins = max([low for _, low, high in spans if low < points[0][0]], default=0.0)
    task = f" on {claim['task']}" if claim["task"] else ""
    title = f"Held-out pass@1{task}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{_quoted(title + ": " + _words(claim))}">',
        f"<style>{bundle(STYLES)}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" class="paper"/>',
        _text(LEFT - 36, 30, title, "title"),
        _text(LEFT - 36, 52, _words(claim)),
        *_phases(frame, spans),
        *_axes(frame, axis),
        *_references(frame, claim, begins),
        *_curve(frame, [*_start(claim, begins), *points]),
        *_final(frame, claim),
        *_labels(frame, claim),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _words(claim: Record) -> str:
    """What it gained and cost, as the second line of the picture."""
    words = []
    if claim["base"] and claim["final"]:
        words.append(f"{claim['base']['pass@1']:.1%} to {claim['final']['pass@1']:.1%}")
    if claim["wall_s"]:
        cores = f" on {claim['cores']:g} cores" if claim["cores"] else ""
        words.append(f"{claim['wall_s'] / 60:.1f} minutes{cores}")
    if claim["money"]:
        words.append(f"{claim['money']:.2g} {claim['currency']}".strip())
    return ", ".join(words)


def _quoted(text: str) -> str:
    """Text for XML, which cannot hold control characters or half surrogate pairs even escaped."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return escape(clean, {'"': "&quot;"})


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{named}>{_quoted(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{style}"/>'


def _phases(frame: Frame, spans: list[Any]) -> Iterator[str]:
    """Every second stage on a tinted ground, each with its name where there is room for it."""
    for n, (name, low, high) in enumerate(spans):
        left, width = frame.x(low), frame.x(high) - frame.x(low)
        if n % 2 == 0:
            yield f'<rect x="{left}" y="{TOP}" width="{width:.2f}" height="{HEIGHT - TOP - BOTTOM}" class="phase"/>'
        if width > 8 * len(name):
            yield _text(round(left + 8, 2), TOP + 18, name)


def _axes(frame: Frame, axis: Axis) -> Iterator[str]:
    base = HEIGHT - BOTTOM
    step = 0.1 if frame.y_max <= 0.5 else 0.2
    for n in range(round(frame.y_max / step) + 1):
        if n * step <= frame.y_max + 1e-9:
            y = frame.y(n * step)
            yield _line(LEFT, y, WIDTH - RIGHT, y, "grid" if n else "axis")
            yield _text(LEFT - 8, y + 4.5, f"{n * step:.0%}", anchor="end")
    gap = round_step(frame.x_max / 7)
    for n in range(int(frame.x_max / gap) + 1):
        yield _text(frame.x(n * gap), base + 20, _short(n * gap), anchor="middle")
    yield _text(
        WIDTH - RIGHT, base + 42, "minutes of wall time" if axis == "minutes" else "tokens", anchor="end"
    )


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not under `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= rough * 0.999)


def _short(value: float) -> str:
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _references(frame: Frame, claim: Record, begins: float) -> Iterator[str]:
    """Control and base as dashed lines; the base's begins where there was a base."""
    for name, x in (("control", 0.0), ("base", begins)):
        if claim[name]:
            y = frame.y(claim[name]["pass@1"])
            yield _line(frame.x(x), y, WIDTH - RIGHT, y, f"line {name}")


def _labels(frame: Frame, claim: Record) -> Iterator[str]:
    """Names and rates at the right end, pushed apart where they are close."""
    free = float("-inf")
    known = [name for name in ("final", "control", "base") if claim[name]]
    for name in sorted(known, key=lambda name: -float(claim[name]["pass@1"])):
        rate = claim[name]["pass@1"]
        free = max(frame.y(rate) + (5.5 if name == "final" else 4.5), free + 18)
        text, style = (f"{rate:.1%}", "final") if name == "final" else (f"{name} {rate:.1%}", f"{name}-name")
        yield _text(WIDTH - RIGHT + 10, round(free, 2), text, style)


def _start(claim: Record, begins: float) -> list[Any]:
    """The base as the first point of the curve: what learning began from, measured when it began."""
    return (
        [[begins, claim["base"]["pass@1"], *(interval(claim["base"]) or (None, None))]]
        if claim["base"]
        else []
    )


def _curve(frame: Frame, points: list[Any]) -> Iterator[str]:
    banded = [point for point in points if point[2] is not None and point[3] is not None]
    if len(banded) > 1:
        upper = [f"{frame.x(x)},{frame.y(min(high, frame.y_max))}" for x, _, _, high in banded]
        lower = [f"{frame.x(x)},{frame.y(low)}" for x, _, low, _ in reversed(banded)]
        yield f'<polygon points="{" ".join(upper + lower)}" class="band"/>'
    middle = " ".join(f"{frame.x(x)},{frame.y(rate)}" for x, rate, _, _ in points)
    yield f'<polyline points="{middle}" class="curve"/>'
    for x, rate, _, _ in points:
        yield f'<circle cx="{frame.x(x)}" cy="{frame.y(rate)}" r="3" class="dot"/>'


def _final(frame: Frame, claim: Record) -> Iterator[str]:
    """The evaluation of the finished model with its interval, at the end of the run."""
    final = claim["final"]
    edges = interval(final) if final and not final.get("so_far") else None
    if edges:
        x = frame.x(frame.x_max)
        yield _line(x, frame.y(edges[0]), x, frame.y(min(edges[1], frame.y_max)), "whisker")
        yield f'<circle cx="{x}" cy="{frame.y(final["pass@1"])}" r="5" class="dot"/>'
