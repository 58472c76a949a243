"""What a scrape finds: the names that dashboards know, and numbers that add up."""

from __future__ import annotations

from typing import Any

import pytest

# The suffixes of vLLM's metrics, so that its dashboards need one replacement, and our own.
COUNTERS = (
    "prompt_tokens_total", "generation_tokens_total", "request_success_total", "prefix_cache_queries_total",
    "prefix_cache_hits_total", "reasoning_tokens_total", "thinking_truncated_total", "requests_shed_total",
    "requests_cancelled_total",
)  # fmt: skip
GAUGES = (
    "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "engine_last_step_age_seconds",
)  # fmt: skip
HISTOGRAMS = (
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
    "request_prompt_tokens", "request_generation_tokens", "grammar_compile_seconds",
)  # fmt: skip
KINDS = {"counter": COUNTERS, "gauge": GAUGES, "histogram": HISTOGRAMS}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in KINDS[kind]])
def test_a_scrape_has_every_name_that_dashboards_know(server: Any, kind: str, name: str) -> None:
    assert f"# TYPE farthing:{name} {kind}" in server.get("/metrics").text.splitlines()


def test_the_parts_of_a_request_add_up_to_the_whole(server: Any) -> None:
    parts = [f"request_{part}_time_seconds" for part in ("queue", "prefill", "decode")]
    names = [*parts, "e2e_request_latency_seconds"]

    def read(end: str) -> list[float]:
        return [server.metric(f"{name}_{end}") for name in names]

    before, counts = read("sum"), read("count")
    server.chat("a question of some length " * 5, max_tokens=8, n=2)
    after = read("sum")
    assert [now - then for now, then in zip(read("count"), counts, strict=True)] == [2] * 4
    queue, prefill, decode, whole = (now - then for now, then in zip(after, before, strict=True))
    assert min(queue, prefill, decode) > 0
    assert queue + prefill + decode == pytest.approx(whole, rel=1e-3)


def test_what_was_looked_up_in_the_cache_bounds_what_was_found(server: Any) -> None:
    text = "the same beginning, word for word, " * 4
    for _ in range(2):
        server.chat(text, max_tokens=2)
    hits, queries = (server.metric(f"prefix_cache_{name}_total") for name in ("hits", "queries"))
    assert 0 < hits < queries
