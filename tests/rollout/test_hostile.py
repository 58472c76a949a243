"""A step whose completions hang, crash, eat memory or are huge: each is told apart from a wrong one, and the others are
scored as if alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farthing.algorithms.advantages import ADVANTAGES
from farthing.algorithms.reduction import REDUCTIONS
from farthing.engine.api import Completion
from farthing.report.alarms import RECENT, alarms
from farthing.report.reading import RunFiles
from farthing.rollout.assemble import assemble
from farthing.rollout.collect import MAX_CHARACTERS, judge
from farthing.rollout.types import Group, Prompt
from farthing.stages.readings import rollout_metrics
from farthing.tasks import load
from farthing.tasks.task import Taskset

REWARDS = Path(__file__).parents[1] / "tasks" / "rewards.py"
BAD = {
    "hang": "timeout",
    "crash": "exit status 1",
    "allocate": "out of memory",
    "recurse": "RecursionError",
    "huge": "too large",
    "raise": "KeyError",
    "nan": "not JSON compliant",
    "none": "returned None",
    "b" * 10_000_000: "too large: 10000000 characters",
    "(" * (MAX_CHARACTERS + 1): "too large",
}


class Spoken:
    """A tokenizer whose token ids are whole completions."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def decode(self, ids: list[int]) -> str:
        return "".join(self.texts[token] for token in ids)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Taskset:
    rows = tmp_path_factory.mktemp("task") / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"q{n}", "answer": "a"}) + "\n" for n in range(40)))
    limits = {"seconds": 1.0, "memory_mb": 256, "workers": 2}
    return load("jsonl", path=str(rows), verifier=f"{REWARDS}:misbehave", limits=limits)


@pytest.fixture(scope="module")
def group(task: Taskset) -> Group:
    """Ten that cannot be scored and two zeros that can."""
    texts = [*BAD, "zero", "zero"]
    prompt = Prompt(task.problem("train", 0), (1, 2), "q", "")
    completions = [[Completion(str(n), [n], [-1.0], [-1.0], "length", 0) for n in range(len(texts))]]
    spoken: object = Spoken(texts)
    (judged,) = judge(spoken, [prompt], completions, task.score_many, {"accuracy": 1.0})  # type: ignore[arg-type]
    return judged


@pytest.mark.parametrize("number", range(len(BAD)), ids=[text[:8] for text in BAD])
def test_what_cannot_be_scored_is_no_zero_and_says_why(group: Group, number: int) -> None:
    rollout, words = group.rollouts[number], list(BAD.values())[number]
    assert rollout.reward is None and rollout.score.correct is None
    assert words in (rollout.score.error or "")


def test_the_others_are_scored_and_learnt_from(group: Group) -> None:
    assert group.rewards[-2:] == [0.0, 0.0]
    samples = assemble([group], ADVANTAGES["zscore"], REDUCTIONS["token"], 1, skip_dead=False)
    assert [sample.token_ids[-1] for sample in samples] == [len(BAD), len(BAD) + 1]


def test_the_share_is_a_metric_and_an_alarm(group: Group, tmp_path: Path) -> None:
    metrics = rollout_metrics([group])
    assert metrics["completions/unscorable_ratio"] == pytest.approx(10 / 12)
    records = [
        {"stage": "grpo", "step": n, "time": 0.0, **metrics, "entropy": 1.0} for n in range(1, RECENT + 1)
    ]
    texts = [alarm["text"] for alarm in alarms(RunFiles(tmp_path, metrics=records))]
    assert "83% of the completions are left without a score." in texts
