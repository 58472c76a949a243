"""Each alarm sounds for its own trouble, and a healthy run is silent."""

import json
from pathlib import Path
from typing import Any

import pytest

from farthing.report.alarms import RECENT, alarms
from farthing.report.reading import RunFiles, read_run

HEALTHY: dict[str, Any] = {"entropy": 0.5, "frac_reward_zero_std": 0.2, "pass_rate": 0.4, "grad_norm": 1.0,
                           "completions/clipped_ratio": 0.01, "completions/unparsable_ratio": 0.02,
                           "mismatch/kl": 1e-6}  # fmt: skip


def records(count: int = 30, **changes: Any) -> list[dict[str, Any]]:
    return [{"stage": "grpo", "step": n, "time": float(n), **HEALTHY, **changes} for n in range(1, count + 1)]


def sounding(tmp_path: Path, metrics: list[dict[str, Any]], **files: Any) -> list[dict[str, Any]]:
    return alarms(RunFiles(tmp_path, metrics=metrics, **files))


def test_the_fixture_run_is_healthy(run_dir: Path) -> None:
    assert alarms(read_run(run_dir)) == []


@pytest.mark.parametrize(
    ("changes", "panel", "words"),
    [
        ({"entropy": 0.001}, "entropy", "Entropy has collapsed to 0.001"),
        (
            {"frac_reward_zero_std": 0.95},
            "dead",
            "95% of the groups teach nothing: the problems may be too hard",
        ),
        ({"frac_reward_zero_std": 0.95, "pass_rate": 0.99}, "dead", "too easy"),
        ({"completions/clipped_ratio": 0.5}, "endings", "50% of the completions are truncated"),
        ({"completions/unparsable_ratio": 0.3}, "endings", "30% of the completions are unparsable"),
        ({"mismatch/kl": 0.2}, "mismatch", "Sampler and learner disagree"),
    ],
)
def test_each_trouble_has_its_alarm(
    tmp_path: Path, changes: dict[str, float], panel: str, words: str
) -> None:
    (alarm,) = sounding(tmp_path, records(**changes))
    assert (alarm["panel"], alarm["stage"]) == (panel, "grpo")
    assert words in alarm["text"]


def test_a_bad_beginning_is_no_alarm(tmp_path: Path) -> None:
    """Most groups are dead while a base knows nothing; only the recent steps count, once there are enough."""
    early = records(60)
    for record in early[:30]:
        record["frac_reward_zero_std"] = 1.0
    assert sounding(tmp_path, early) == []
    assert sounding(tmp_path, records(RECENT - 1, frac_reward_zero_std=1.0)) == []
    assert len(sounding(tmp_path, records(RECENT, frac_reward_zero_std=1.0))) == 1


def test_a_run_that_went_back_says_why(tmp_path: Path) -> None:
    back = {"stage": "grpo", "step": 31, "to": 25, "why": "step 31: entropy has collapsed"}
    (alarm,) = sounding(tmp_path, records(), rollbacks=[back])
    assert (alarm["stage"], alarm["step"]) == ("grpo", 31)
    assert alarm["text"] == (
        "Step 31: entropy has collapsed. The run went back to step 25 and on at half the rate."
    )


def test_repetition_that_pays_sounds(tmp_path: Path) -> None:
    rising = records(40)
    for record in rising[20:]:
        record |= {"completions/repetition": 0.8, "reward": 1.0}
    for record in rising[:20]:
        record |= {"completions/repetition": 0.1, "reward": 0.5}
    (alarm,) = sounding(tmp_path, rising)
    assert "80% of their 4-grams are repeated, 70% more than at first" in alarm["text"]


def test_not_finite_comes_first_and_once(tmp_path: Path) -> None:
    broken = records(entropy=0.0)
    for record in broken[5:]:
        record |= {"grad_norm": None, "nonfinite": ["grad_norm"]}
    found = sounding(tmp_path, broken)
    assert [alarm["level"] for alarm in found] == ["error", "warning"]
    assert (found[0]["step"], found[0]["text"]) == (6, "Not a finite number: grad_norm.")


def test_a_gradient_spike_is_measured_against_its_median(tmp_path: Path) -> None:
    spiked = records()
    spiked[10]["grad_norm"] = 80.0
    (alarm,) = sounding(tmp_path, spiked)
    assert (alarm["step"], alarm["panel"]) == (11, "gradient")
    assert "80 times its median" in alarm["text"]


@pytest.mark.parametrize(("share", "count"), [(0.3, 1), (0.2, 0)])
def test_many_rewarded_samples_with_a_flag_are_an_alarm(tmp_path: Path, share: float, count: int) -> None:
    found = sounding(tmp_path, [one | {"completions/flagged_ratio": share} for one in records()])
    assert [(alarm["panel"], "30% of the right samples" in alarm["text"]) for alarm in found] == [
        ("gaming", True)
    ] * count


@pytest.mark.parametrize(("last", "count"), [(0.30, 1), (0.45, 0)])
def test_a_fall_counts_when_the_intervals_part(tmp_path: Path, last: float, count: int) -> None:
    falling = records()
    for place, rate in ((9, 0.5), (29, last)):
        falling[place] |= {
            "eval/pass@1": rate,
            "eval/pass@1_low": rate - 0.05,
            "eval/pass@1_high": rate + 0.05,
        }
    found = sounding(tmp_path, falling)
    assert len(found) == count
    assert all("fell from 50.0% at step 10 to 30.0%" in alarm["text"] for alarm in found)


def test_unscored_samples_are_reported_with_a_reason(tmp_path: Path) -> None:
    samples = [{"correct": None, "error": "timed out"}, {"correct": 1.0}]
    (alarm,) = sounding(tmp_path, [], groups=[{"stage": "grpo", "step": 1, "samples": samples}])
    assert alarm["text"] == "1 of 2 kept samples could not be scored; the first: timed out"


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    (alarm,) = sounding(tmp_path, [], status={"state": "failed", "stage": "grpo", "message": "disk full"})
    assert (alarm["level"], alarm["text"]) == ("error", "The run failed: disk full")


def test_a_ledger_that_does_not_balance_is_an_alarm(tmp_path: Path) -> None:
    phase = {"attempt": 1, "stage": "grpo", "kind": "train", "step": 1, "wall_s": 10.0}
    lines = [phase | {"start_s": 0.0}, phase | {"start_s": 5.0}]
    (tmp_path / "ledger.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    (alarm,) = alarms(read_run(tmp_path))
    assert alarm["text"].startswith("The ledger does not balance")
