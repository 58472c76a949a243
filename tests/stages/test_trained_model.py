"""Reinforcement learning on a model that somebody trained, as its user would do it: a file of openings, a reward of
one's own, and a recipe. The story must contain three words; how many of them it does is the reward."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from farthing.config import to_toml
from farthing.runs import samples
from farthing.runs.metrics import read

WEIGHTS = Path(__file__).resolve().parents[2] / "../shared/data/weights/tinystories-656k"

pytestmark = pytest.mark.skipif(
    not WEIGHTS.is_dir(), reason="shared/data/weights/tinystories-656k is not there"
)

NAMES = ("Tom", "Lily", "Ben", "Mia", "Sam", "Sue", "Max", "Anna")
PLACES = ("park", "house", "garden", "school", "forest")
OPENINGS = [f"Once upon a time, {name} went to the {place}." for name in NAMES for place in PLACES]
STEPS = 12
WORDS = "happy friend smile"
REWARD = '''
import re

def reward(completion, answer, **row):
    """The share of the words in `answer` that the story contains."""
    words = answer.split()
    return sum(word in re.findall("[a-z]+", completion.lower()) for word in words) / len(words)
'''


def recipe(folder: Path) -> dict[str, object]:
    return {
        "name": "three-words",
        "stages": ["grpo"],
        "model": {"path": str(WEIGHTS)},
        "task": {
            "name": "jsonl",
            "path": str(folder / "openings.jsonl"),
            "verifier": f"{folder}/words.py:reward",
            "form": "free",
        },
        "grpo": {
            "steps": STEPS,
            "prompts_per_step": 6,
            "samples_per_prompt": 8,
            "max_new_tokens": 48,
            "rewards": {"accuracy": 1.0},
            "overlong_share": 0.0,
            "refill_rounds": 0,
            "lr": 1.5e-3,
            "warmup_steps": 1,
            "eval_every": 100,
            "checkpoint_every": 100,
            "samples_every": STEPS,
        },
    }


def test_the_reward_rises(tmp_path: Path, on_one_core: Callable[..., str]) -> None:
    """From the first third of the steps to the last by more than three standard errors."""
    (tmp_path / "words.py").write_text(REWARD)
    rows = [{"question": opening, "answer": WORDS} for opening in OPENINGS]
    (tmp_path / "openings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.toml").write_text(to_toml(recipe(tmp_path)))
    on_one_core("-m", "farthing", "run", tmp_path / "recipe.toml", "--run-dir", tmp_path / "run")
    rewards = [step["reward"] for step in read(tmp_path / "run/metrics.jsonl") if "reward" in step]
    first, last = rewards[:4], rewards[-4:]
    error = ((statistics.variance(first) + statistics.variance(last)) / 4) ** 0.5
    assert len(rewards) == STEPS
    assert statistics.fmean(last) - statistics.fmean(first) > 3 * error
    prompts = {record["prompt"] for record in samples.read(tmp_path / "run/samples.jsonl")}
    assert prompts <= set(OPENINGS), "without a chat template the opening is what the model goes on from"
