"""What a tiny run must have come to: the reward rose, the ledger balances, the report renders, the summary is whole.

python .ci/tiny.py RUN
"""

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from farthing.cost.entries import read as read_ledger
from farthing.cost.totals import balance
from farthing.report.page import write_report
from farthing.runs.metrics import read as read_metrics


def reward_rose(run: Path) -> str:
    """The last third of the steps against the first, by more than one standard error of the difference.

    A run this short is noisy, so the evidence is joined by `learned`, on problems that were never trained on.
    """
    rewards = [record["reward"] for record in read_metrics(run / "metrics.jsonl") if "reward" in record]
    third = len(rewards) // 3
    assert third >= 3, f"only {len(rewards)} steps have a reward"
    first, last = rewards[:third], rewards[-third:]
    rise = statistics.fmean(last) - statistics.fmean(first)
    error = ((statistics.variance(first) + statistics.variance(last)) / third) ** 0.5
    assert rise > error, f"the reward rose by {rise:.4f} only, with a standard error of {error:.4f}"
    return f"reward rose by {rise:.3f} (standard error {error:.3f})"


def learned(run: Path) -> str:
    """Held-out pass@1 ends above the whole interval of the base's."""
    found = json.loads((run / "summary.json").read_text(encoding="utf-8"))["evaluations"]
    base, final = found["base"], found["final"]
    shown = f"held-out pass@1 {base['pass@1']:.1%} -> {final['pass@1']:.1%}"
    assert final["pass@1"] > base["pass@1_interval"][1], (
        f"{shown}, inside the base's {base['pass@1_interval']}"
    )
    return shown


def ledger_balances(run: Path) -> str:
    entries = read_ledger(run / "ledger.jsonl")
    assert entries
    balance(entries)
    return f"ledger balances over {len(entries)} phases"


def report_renders(run: Path) -> str:
    """One file that asks nothing of the network."""
    page = write_report(run, run / "ci-report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page) == []
    return f"report renders in {len(page) // 1024} KiB"


def summary_is_whole(run: Path) -> str:
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert {"stages", "evaluations", "wall_s", "tokens", "flops", "cost"} <= set(summary)
    for name in ("base", "final"):
        found = summary["evaluations"][name]
        assert {
            "task",
            "n",
            "samples",
            "pass@1",
            "pass@1_interval",
            "mean_length",
            "truncated",
            "unparsable",
        } <= set(found)
        low, high = found["pass@1_interval"]
        assert 0 <= low <= found["pass@1"] <= high <= 1
    for model in ("base", "model"):
        assert (run / model / "config.json").is_file()
        assert list((run / model).glob("*.safetensors"))
    return f"summary is whole: {summary['wall_s']:.0f} s"


def experts_were_balanced(run: Path) -> str:
    """In a model with experts: routing is in the metrics of every learning stage, and grew more even in pretraining."""
    records = read_metrics(run / "metrics.jsonl")
    for stage in ("pretrain", "grpo"):
        steps = [record for record in records if record["stage"] == stage and record.get("trained_tokens")]
        assert steps and all({"moe/max_load", "moe/idle", "moe/load_cv"} <= set(step) for step in steps)
    spread = [record["moe/load_cv"] for record in records if record["stage"] == "pretrain"]
    tenth = len(spread) // 10
    first, last = statistics.fmean(spread[:tenth]), statistics.fmean(spread[-tenth:])
    assert last < first / 2, f"the spread of the experts' loads went from {first:.2f} to {last:.2f} only"
    return f"spread of the experts' loads {first:.2f} -> {last:.2f}"


def further_prediction_was_learnt(run: Path) -> str:
    """In a model with MTP modules: their loss is in the metrics and fell."""
    losses = [record["mtp_loss"] for record in read_metrics(run / "metrics.jsonl") if "mtp_loss" in record]
    assert losses[-1] < losses[0] / 2, f"the loss of further prediction went from {losses[0]} to {losses[-1]}"
    return f"loss of further prediction {losses[0]:.2f} -> {losses[-1]:.2f}"


def checks(run: Path) -> list[Callable[[Path], str]]:
    """Those that every run has to pass, and those that its model calls for."""
    model = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))
    return [
        summary_is_whole,
        reward_rose,
        learned,
        ledger_balances,
        report_renders,
        *([experts_were_balanced] if model.get("n_routed_experts") else []),
        *([further_prediction_was_learnt] if model.get("num_nextn_predict_layers") else []),
    ]


def main() -> None:
    run = Path(sys.argv[1])
    for check in checks(run):
        try:
            print(f"tiny: {check(run)}")
        except (AssertionError, KeyError, OSError) as problem:
            sys.exit(f"tiny: {check.__name__.replace('_', ' ')} did not hold: {problem}")


if __name__ == "__main__":
    main()
