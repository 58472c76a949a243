"""The served engine without its server: tokens per second of a full batch and of one reply, time to a first token.

    python bench/engine_alone.py MODEL JSON      JSON: messages, rows, tokens, threads, quantize; the last line is JSON

Loaded as `farthing serve` loads it, stepped as its process steps it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.load import varied
from farthing.engine.api import Request, SamplingParams
from farthing.engine.engine import Engine
from farthing.server.backend.loading import load, resident_bytes
from farthing.server.protocol.models import open_served
from farthing.text.chat import render


def main() -> None:
    told: dict[str, Any] = json.loads(sys.argv[2])
    model = open_served(Path(sys.argv[1]), 0)
    asked = {"directory": sys.argv[1], "stop_ids": list(model.stop_ids)}
    settings = {
        "models": [asked],
        "dtype": "auto",
        "context": None,
        "cache_bytes": None,
        "measure_seconds": 0.5,
    }
    settings |= {"threads": told["threads"], "running": told["rows"], "quantize": told.get("quantize")}
    empty = resident_bytes()
    served = load(asked, settings)
    engine = served.engine
    ids = rendered(engine, told["messages"])
    firsts = [
        first_token(engine, rendered(engine, varied(told["messages"], 1 + seed)), seed) for seed in range(25)
    ]
    first = statistics.median(firsts[5:])
    rate = statistics.median([full_batch(engine, ids, told["rows"], told["tokens"]) for _ in range(3)])
    one = statistics.median([full_batch(engine, ids, 1, told["tokens"]) for _ in range(3)])
    found = {"tokens_per_s": rate, "one_tokens_per_s": one, "first_token_s": first}
    found |= {"dtype": served.facts["dtype"], "model_bytes": served.facts["weight_bytes"] - empty}
    print(json.dumps(found))


def rendered(engine: Engine, messages: list[dict[str, Any]]) -> tuple[int, ...]:
    return tuple(render(engine.tokenizer, messages, add_generation_prompt=True).ids)


def first_token(engine: Engine, ids: tuple[int, ...], seed: int) -> float:
    """Seconds from the request to its first token, nothing else being written."""
    began = time.perf_counter()
    engine.add(Request(ids, SamplingParams(max_new_tokens=1, seed=seed), "first"))
    while not engine.step():
        pass
    return time.perf_counter() - began


def full_batch(engine: Engine, ids: tuple[int, ...], rows: int, tokens: int) -> float:
    """Tokens per second of `rows` replies written together."""
    for row in range(rows):
        engine.add(Request(ids, SamplingParams(max_new_tokens=tokens, seed=row), str(row)))
    began, count = time.perf_counter(), 0
    while not engine.scheduler.is_idle:
        count += len(engine.step())
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
