"""Numbers for Prometheus, in its text format: counters, histograms, and gauges read when they are asked for.

Names follow vLLM's behind our own prefix, so that dashboards need one replacement. No text of users is ever a label.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

Labels = tuple[tuple[str, str], ...]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TOKENS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0)


class Counter:
    """A number that only grows, one for each combination of labels."""

    def __init__(self, name: str, meaning: str, *labels: str) -> None:
        self.name, self.meaning, self.labels = name, meaning, labels
        self.values: dict[tuple[str, ...], float] = defaultdict(float)
        if not labels:
            self.values[()] = 0.0

    def add(self, amount: float = 1.0, *labels: str) -> None:
        self.values[labels] += amount

    def lines(self) -> list[str]:
        out = [f"# HELP {self.name} {self.meaning}", f"# TYPE {self.name} counter"]
        for labels, value in sorted(self.values.items()):
            out.append(f"{self.name}{_shown(tuple(zip(self.labels, labels, strict=True)))} {value:g}")
        return out


class Histogram:
    """How often a value was at most so large."""

    def __init__(self, name: str, meaning: str, edges: tuple[float, ...] = SECONDS) -> None:
        self.name, self.meaning, self.edges = name, meaning, edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.edges, value)] += 1
        self.total += value

    def lines(self) -> list[str]:
        out = [f"# HELP {self.name} {self.meaning}", f"# TYPE {self.name} histogram"]
        below = 0
        for edge, count in zip([*(f"{edge:g}" for edge in self.edges), "+Inf"], self.counts, strict=True):
            below += count
            out.append(f'{self.name}_bucket{{le="{edge}"}} {below}')
        return [*out, f"{self.name}_sum {self.total:.12g}", f"{self.name}_count {below}"]


class Gauge:
    """A number as it is at the moment of asking."""

    def __init__(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        self.name, self.meaning, self.read = name, meaning, read

    def lines(self) -> list[str]:
        return [
            f"# HELP {self.name} {self.meaning}",
            f"# TYPE {self.name} gauge",
            f"{self.name} {self.read():g}",
        ]


def _shown(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


class Metrics:
    """Everything that is counted. `page` is what a scrape reads."""

    def __init__(self) -> None:
        p = "farthing:"
        self.requests = Counter(
            f"{p}http_requests_total", "Answers sent, by route and status.", "route", "status"
        )
        self.success = Counter(f"{p}request_success_total", "Replies completed.", "finished_reason")
        self.prompt_tokens = Counter(f"{p}prompt_tokens_total", "Prompt tokens taken in.")
        self.looked_up_tokens = Counter(
            f"{p}prefix_cache_queries_total",
            "Prompt tokens that were looked for among those computed before.",
        )
        self.cached_tokens = Counter(
            f"{p}prefix_cache_hits_total", "Prompt tokens that were not computed again."
        )
        self.tokens = Counter(f"{p}generation_tokens_total", "Tokens written, thinking included.")
        self.thinking_tokens = Counter(f"{p}reasoning_tokens_total", "Tokens written while thinking.")
        self.thinking_cut = Counter(
            f"{p}thinking_truncated_total", "Thoughts that were ended from outside.", "reason"
        )
        self.shed = Counter(
            f"{p}requests_shed_total", "Requests refused because there is too much to do.", "reason"
        )
        self.cancelled = Counter(f"{p}requests_cancelled_total", "Requests whose client went away.", "phase")
        self.first_token = Histogram(f"{p}time_to_first_token_seconds", "From arrival to the first token.")
        self.between = Histogram(
            f"{p}inter_token_latency_seconds", "Mean time between two tokens of a reply."
        )
        self.queued = Histogram(f"{p}request_queue_time_seconds", "From arrival to a place in the engine.")
        self.prefill = Histogram(
            f"{p}request_prefill_time_seconds", "From a place in the engine to the first token."
        )
        self.decode = Histogram(f"{p}request_decode_time_seconds", "From the first token to the last.")
        self.whole = Histogram(f"{p}e2e_request_latency_seconds", "From arrival to the last token.")
        self.prompt_length = Histogram(f"{p}request_prompt_tokens", "Length of prompts.", TOKENS)
        self.length = Histogram(f"{p}request_generation_tokens", "Length of replies.", TOKENS)
        self.grammar_seconds = Histogram(f"{p}grammar_compile_seconds", "Time to compile a grammar.")
        self.gauges: list[Gauge] = []

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Add a gauge."""
        self.gauges.append(Gauge(f"farthing:{name}", meaning, read))

    def page(self) -> str:
        """All of them, in Prometheus's text format, version 0.0.4."""
        counted = [value for value in vars(self).values() if isinstance(value, Counter | Histogram)]
        return "\n".join(line for metric in [*counted, *self.gauges] for line in metric.lines()) + "\n"
