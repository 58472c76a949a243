"""samples.jsonl: whole groups there and back."""

from pathlib import Path

from farthing.runs.samples import SampleLog, read

SAMPLE = {"text": "<think>2+3</think>", "reward": 1.1, "correct": None, "error": "timeout", "tokens": 9}
GROUP = {"problem": {"numbers": [2, 3], "target": 5}, "prompt": "Make 5", "samples": [SAMPLE]}


def test_groups_come_back_and_are_cut_on_resume(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "samples.jsonl")
    for step in (1, 2, 3):
        log.log("grpo", step, GROUP)
    log.log("rl2", 1, {**GROUP, "prompt": "línea\n二"})
    assert log.truncate("grpo", 1) == 2
    log.close()
    kept = read(tmp_path / "samples.jsonl")
    assert kept == [
        {"stage": "grpo", "step": 1, **GROUP},
        {"stage": "rl2", "step": 1, **GROUP, "prompt": "línea\n二"},
    ]
