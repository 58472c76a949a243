"""What has to hold after the miniature of the whole pipeline: python .ci/r1.py RUN"""

from __future__ import annotations

import json
import sys
from pathlib import Path

MODELS = ("pretrain", "zero", "cold_sft", "reason", "sft", "final_rl")
STUDENTS = ("student_base", "student_distill", "student_sft")


def main() -> None:
    run = Path(sys.argv[1])
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    found = summary["evaluations"]
    assert tuple(found) == MODELS + STUDENTS, f"evaluated: {', '.join(found)}"
    for model, tasks in found.items():
        assert set(tasks) == {"countdown", "words"}, f"{model}: {', '.join(tasks)}"
        assert 0 <= tasks["words"]["language"] <= 1
        for task, result in tasks.items():
            low, high = result["pass@1_interval"]
            assert 0 <= low <= result["pass@1"] <= high <= 1, (
                f"{model}, {task}: {result['pass@1']} in {low}, {high}"
            )
    pairs = len(found) * (len(found) - 1) // 2
    assert len(summary["comparisons"]) == 2 * pairs, f"{len(summary['comparisons'])} comparisons"
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert all(f"| {model} |" in card for model in found), "the model card leaves a stage out"
    print(f"r1: every stage on both tasksets in {summary['wall_s']:.0f} s")


if __name__ == "__main__":
    main()
