"""How much one request and all of them together may ask for; checked before the engine hears of anything.

`docs/serving.md` shows this table; a limit that is reached is answered with an error that names it, never by cutting.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """One request: sizes in bytes, counts of list entries, seconds. Together: what may wait."""

    body_bytes: int = 4 << 20
    header_bytes: int = 16 << 10
    body_seconds: float = 30.0
    messages: int = 2000
    prompts: int = 64
    choices: int = 16
    top_logprobs: int = 20
    logit_bias: int = 300
    stop_strings: int = 4
    stop_bytes: int = 256
    schema_bytes: int = 64 << 10
    schema_depth: int = 32
    tools: int = 64
    grammar_seconds: float = 5.0
    queued_requests: int = 64
    queued_tokens: int = 1 << 18
    queue_seconds: float = 60.0
    unstreamed_seconds: float = 540.0
    request_seconds: float = 3600.0
    keepalive_seconds: float = 10.0
