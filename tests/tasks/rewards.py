"""Rewards of a user's own, good and bad, loaded in workers by path."""

import math
import os
import time
from typing import Any


def long_enough(completion: str, *, question: str, answer: str, minimum: int = 3, **row: Any) -> float:
    """The share of the asked number of words."""
    return min(1.0, len(completion.split()) / minimum)


def detailed(completion: str, **row: Any) -> dict[str, Any]:
    """Parts and an answer of its own."""
    right = row["answer"] in completion
    return {
        "correct": right,
        "parts": {"brevity": 1.0 / (1 + len(completion))},
        "answer": completion.strip().lower(),
    }


def misbehave(completion: str, **row: Any) -> Any:
    """Does what the completion says."""
    if completion == "hang":
        time.sleep(60)
    if completion == "crash":
        os._exit(1)
    if completion == "raise":
        raise KeyError("reward")
    if completion == "recurse":
        return misbehave(completion, **row)
    if completion == "allocate":
        return len("x" * (2 << 30))
    return {
        "none": None,
        "huge": "x" * (3 << 20) if completion == "huge" else None,
        "nan": math.nan,
        "text": "good",
        "list": [1],
        "zero": 0,
        "parts": {"correct": 1, "parts": 3},
    }[completion]


not_a_function = 3
