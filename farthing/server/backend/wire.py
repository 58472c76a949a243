"""What web process and engine process say to each other: one JSON object a line, over a unix socket of mode 0600.

    web ──▶ engine   {"op": "add", "model": 0, "id": "7", "prompt": [..], "params": {..}, "steering": {..},
                      "grammar": ".."}
                     {"op": "abort" | "close_thought", "model": 0, "id": "7"}    {"op": "check", "id": "7"}
                     {"op": "unload", "model": 0}   as soon as it has nothing to do
    engine ──▶ web   {"kind": "hello", "models": [..], ...}   once, when the first model is loaded
                     {"kind": "model", "model": 1, "state": "loading" | "ready" | "unloaded", "facts": {..}}
                     {"kind": "tokens", "model": 0, "events": [[id, token, logprob] or [id, token, logprob, {..}], ..]}
                     {"kind": "failed", "id": "7", "message": "..", "absent": true where the model cannot be loaded}
                     {"kind": "fatal", "message": ".."}
                     {"kind": "freed", "id": "7"}   what was aborted holds no place any more
                     {"kind": "beat", ...}   at least once a second; what stands still for long has died

Both processes are ours and of one version, so nothing here is negotiated. Never pickle: a line that is not JSON is an
error and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Message = dict[str, Any]
BEAT_SECONDS = 0.5
LONGEST_LINE = 64 << 20


def encode(message: Mapping[str, Any]) -> bytes:
    """One line. Numbers that are not finite are written as Python's json reads them."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The object in a line; raises ValueError for anything else."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message
