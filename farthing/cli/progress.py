"""What the live view and the plain lines say, worked out from the records of metrics.jsonl."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from farthing.runs.files import Record

_WINDOW = 20  # records over which the speed is measured
_HISTORY = 400  # points of the sparkline
_BARS = "▁▂▃▄▅▆▇█"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    return f"{value:.3f}"


FIGURES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("reward", "reward", short),
    ("pass rate", "pass_rate", percent),
    ("held-out pass@1", "eval/pass@1", percent),
    ("length", "completions/mean_length", whole),
    ("loss", "loss", short),
    ("held-out loss", "heldout_loss", short),
    ("tokens/s", "tokens_per_second", whole),
)


@dataclass
class Progress:
    """Where a run is. Fed by the records; asked by whoever draws."""

    stage: str = ""
    step: int = 0
    steps: int = 0
    currency: str = ""
    values: dict[str, float | None] = field(default_factory=dict)
    curve: list[float] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    began: float = 0.0
    now: float = 0.0
    _times: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def begin(self, about: Mapping[str, Any]) -> None:
        """A stage begins or goes on; the one before it is done."""
        self.now = float(about.get("time") or self.now)
        if self.stage:
            self.done.append(f"{self.stage} {clock(self.now - self.began)}")
        self.stage = str(about["stage"])
        self.step, self.steps = int(about.get("step") or 0), int(about.get("steps") or 0)
        self.currency = str(about.get("currency") or self.currency)
        cost = {key: value for key, value in self.values.items() if key.startswith("cost/")}
        self.values, self.curve = cost, []
        self.began = self.now
        self._times.clear()

    def update(self, record: Record) -> None:
        """Take in one record; the first one of an unannounced stage announces it."""
        self.now = float(record["time"])
        if record["stage"] != self.stage:
            self.begin({"stage": record["stage"], "time": self.now})
        self.step = int(record["step"])
        self.values.update(
            {key: value for key, value in record.items() if isinstance(value, float | int | None)}
        )
        if not self._times or self.step > self._times[-1][1]:
            self._times.append((self.now, self.step))
        for name in ("reward", "loss"):
            if isinstance(record.get(name), float | int):
                self.curve = [*self.curve[-_HISTORY:], float(record[name])]

    def seconds_left(self) -> float | None:
        """Until the end of the stage at the pace of the last records; None while that cannot be told."""
        if len(self._times) < 2 or self.step >= self.steps:
            return None
        (first, before), (last, after) = self._times[0], self._times[-1]
        return max(0.0, last - first) / (after - before) * (self.steps - self.step)

    def figures(self) -> list[tuple[str, str]]:
        """(name, value) of what is known, in reading order."""
        shown = []
        for label, key, form in FIGURES:
            if key in self.values:
                value = self.values[key]
                shown.append((label, "not finite" if value is None else form(value)))
        return shown

    def cost(self) -> str:
        """What the run has cost and how long it has lasted, as far as the records say."""
        money, wall = self.values.get("cost/money"), self.values.get("cost/wall_s")
        parts = [f"{self.currency} {money:.4f}".strip()] if money else []
        return " in ".join([*parts, clock(wall)] if wall is not None else parts)

    def line(self) -> str:
        """Everything in one plain line."""
        parts = [f"{self.stage} {self.step}" + (f"/{self.steps}" if self.steps else "")]
        parts += [f"{label} {value}" for label, value in self.figures()]
        left = self.seconds_left()
        parts += [f"{clock(left)} left"] if left is not None else []
        parts += [self.cost()] if self.cost() else []
        return "  ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:30 or 1:02:03."""
    whole_seconds = max(0, round(seconds))
    hours, rest = divmod(whole_seconds, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def sparkline(values: list[float], width: int) -> str:
    """The values as `width` bars or fewer, each the mean of its share."""
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    edges = [index * len(values) // count for index in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)
