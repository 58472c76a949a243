"""Each way of going wrong is seen in the metrics; going back is resuming at half the rate, a bounded number of
times."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from farthing.errors import Derailed
from farthing.learner.checkpoint import Checkpoints
from farthing.report.reading import read_run
from farthing.runs.metrics import MetricsLog
from farthing.stages.config.grpo import GrpoConfig
from farthing.stages.config.guards import GuardConfig
from farthing.stages.flags import repeated_share
from farthing.stages.guards import Watch, go_back, rollbacks, slowed
from farthing.stages.signs import SIGNS, View

HEALTHY: dict[str, float] = {
    "entropy": 0.8, "pass_rate": 0.4, "reward": 0.4, "mismatch/kl": 1e-6, "completions/repetition": 0.1,
}  # fmt: skip
LIMITS = GuardConfig(window=3)


def seen(*changes: dict[str, Any], limits: GuardConfig = LIMITS) -> list[str]:
    """What the guards say after three healthy steps and three with each of the changes."""
    rows = [{"step": n, **HEALTHY} for n in range(3)]
    rows += [{"step": 3 + n, **HEALTHY, **change} for change in changes for n in range(3)]
    said = [sign(View(rows, limits.window), limits) for sign in SIGNS]
    return [sentence for sentence in said if sentence is not None]


def test_a_healthy_run_is_left_alone() -> None:
    assert seen({}) == []
    assert seen({"entropy": None, "mismatch/kl": None}) == [], (
        "steps that taught nothing have no such metrics"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entropy": 0.01}, "entropy has collapsed to 0.010 nats per token"),
        ({"entropy": 3.0}, "entropy has risen by 2.20 nats per token"),
        ({"mismatch/kl": 0.5}, "sampler and learner disagree: KL 0.5 nats per token"),
        ({"completions/repetition": 0.7, "reward": 0.9}, "70% of their 4-grams are repeated, 60% more"),
    ],
)
def test_each_failure_is_seen_and_can_be_switched_off(change: dict[str, float], words: str) -> None:
    (sentence,) = seen(change)
    assert words in sentence
    assert "; " in sentence, "one sentence and one remedy"
    off = GuardConfig(window=3, entropy_floor=0, entropy_rise=0, mismatch_kl=0, repetition_rise=0)
    assert seen(change, limits=off) == []


@pytest.mark.parametrize(
    "change",
    [
        {"entropy": 0.01, "pass_rate": 0.97},
        {"completions/repetition": 0.7, "reward": 0.1},
        {"completions/repetition": 0.39},
    ],
)
def test_what_looks_alike_is_let_pass(change: dict[str, float]) -> None:
    """A solved task has no entropy to lose; samples that repeat themselves and earn less are unlearnt by themselves."""
    assert seen(change) == []


def test_one_bad_step_is_no_failure() -> None:
    rows = [{"step": n, **HEALTHY} for n in range(8)]
    rows[5] |= {"entropy": 0.0, "mismatch/kl": 0.2, "completions/repetition": 0.9}
    view = View(rows, LIMITS.window)
    assert [sign(view, LIMITS) for sign in SIGNS] == [None] * len(SIGNS)


def test_repetition_by_hand() -> None:
    assert repeated_share([1, 2, 3]) == 0.0
    assert repeated_share([1, 2, 3, 4, 5, 6]) == 0.0
    assert repeated_share([1, 2, 1, 2, 1, 2, 1]) == pytest.approx(2 / 4), "1212 2121 1212 2121"
    assert repeated_share([7] * 103) == pytest.approx(99 / 100)


@pytest.fixture
def context(tmp_path: Path) -> Any:
    directory = tmp_path / "stages" / "grpo"
    directory.mkdir(parents=True)
    return SimpleNamespace(name="grpo", run=SimpleNamespace(path=tmp_path), directory=directory)


def saved(context: Any, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(context.directory / "checkpoints", 9)
    for step in steps:
        checkpoints.save(step, {"x": torch.ones(1)}, {})
    return checkpoints


def test_a_resumed_watch_sees_what_the_first_one_saw(context: Any, tmp_path: Path) -> None:
    """What a guard decides is a function of metrics.jsonl, so a killed run decides the same."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        log.log("grpo", step, HEALTHY | {"entropy": 0.001 if step > 3 else 0.8})
        log.log("other", step, {"entropy": 0.0})
    alone, resumed = Watch(context, LIMITS), Watch(context, LIMITS)
    last = log.log("grpo", 6, HEALTHY | {"entropy": 0.001})
    for watch in (alone, resumed):
        with pytest.raises(Derailed, match="step 6: entropy has collapsed") as caught:
            watch.see(last)
        assert caught.value.since == 3
    assert len(alone.records) == 6, "its own stage's"


def test_going_back_drops_what_came_after_and_halves_the_rate(context: Any) -> None:
    checkpoints = saved(context, 10, 20, 30)
    config = GrpoConfig(lr=8e-4, muon_lr=4e-3)
    assert slowed(context, config) == config
    go_back(context, config, Derailed("entropy has collapsed", since=27), step=37)
    assert checkpoints.steps() == [10, 20]
    assert rollbacks(context.directory) == [
        {"stage": "grpo", "step": 37, "to": 20, "why": "entropy has collapsed"}
    ]
    assert (slowed(context, config).lr, slowed(context, config).muon_lr) == (4e-4, 2e-3)


def test_a_gradient_that_is_not_finite_costs_no_checkpoint(context: Any) -> None:
    checkpoints = saved(context, 10, 20)
    go_back(context, GrpoConfig(), Derailed("loss nan"), step=25)
    assert checkpoints.steps() == [10, 20]


def test_without_a_sound_checkpoint_the_stage_begins_anew(context: Any) -> None:
    go_back(context, GrpoConfig(), Derailed("noise", since=4), step=14)
    assert rollbacks(context.directory)[0]["to"] == 0


def test_it_stops_after_so_many_times(context: Any) -> None:
    config = GrpoConfig.model_validate({"guards": {"rollbacks": 1}})
    checkpoints = saved(context, 10)
    go_back(context, config, Derailed("loss nan; lower lr"), step=15)
    with pytest.raises(Derailed, match="loss nan; lower lr; going back did not help"):
        go_back(context, config, Derailed("loss nan; lower lr", since=5), step=15)
    assert checkpoints.steps() == [10], "what was learnt stays for whoever looks"


def test_it_stops_at_once_where_it_may_not_go_back(context: Any) -> None:
    never = GrpoConfig.model_validate({"guards": {"rollbacks": 0}})
    with pytest.raises(Derailed, match=r"^loss nan$"):
        go_back(context, never, Derailed("loss nan"), step=15)


def test_the_report_reads_what_the_stage_wrote(context: Any, tmp_path: Path) -> None:
    go_back(context, GrpoConfig(), Derailed("noise", since=4), step=14)
    (record,) = read_run(tmp_path).rollbacks
    assert (record["stage"], record["step"], record["why"]) == ("grpo", 14, "noise")
