"""The official client of the server that most tests share, and a tool to offer it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

MULTIPLY: dict[str, Any] = {
    "name": "times",
    "description": "The product of two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"enum": [7, 8]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)
