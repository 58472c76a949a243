"""Lineage: a model's ancestors by fingerprint, and what is noticed when they do not fit."""

from pathlib import Path

import pytest

from farthing.errors import RunError
from farthing.runs.lineage import ancestry, stage_fingerprint
from farthing.runs.store import RunDir


def test_a_fingerprint_follows_everything_that_decides_the_result() -> None:
    base = stage_fingerprint("grpo", {"lr": 1e-3}, 0, {"pretrain": "p"})
    others = [
        stage_fingerprint("pretrain", {"lr": 1e-3}, 0, {"pretrain": "p"}),
        stage_fingerprint("grpo", {"lr": 2e-3}, 0, {"pretrain": "p"}),
        stage_fingerprint("grpo", {"lr": 1e-3}, 1, {"pretrain": "p"}),
        stage_fingerprint("grpo", {"lr": 1e-3}, 0, {"pretrain": "q"}),
    ]
    assert base == stage_fingerprint("grpo", {"lr": 1e-3}, 0, {"pretrain": "p"})
    assert len({base, *others}) == 5


def test_ancestors_come_oldest_first_and_once(tmp_path: Path) -> None:
    with RunDir.open(tmp_path, {"name": "x"}) as run:
        run.write_artifact("tokenizer", "t", {}, {})
        run.write_artifact("pretrain", "p", {"tokenizer": "t", "corpus.jsonl": "c"}, {})
        run.write_artifact("grpo", "g", {"tokenizer": "t", "pretrain": "p"}, {})
        assert [artifact["stage"] for artifact in ancestry(tmp_path, "grpo")] == [
            "tokenizer",
            "pretrain",
            "grpo",
        ]
        assert [artifact["stage"] for artifact in ancestry(tmp_path, "tokenizer")] == ["tokenizer"]
        run.write_artifact("tokenizer", "t2", {}, {})
        with pytest.raises(RunError, match="stage grpo was made from another version of stage tokenizer"):
            ancestry(tmp_path, "grpo")
        with pytest.raises(RunError, match="stage final has not finished"):
            ancestry(tmp_path, "final")
        run.write_artifact("tokenizer", "t", {"grpo": "g"}, {})
        with pytest.raises(RunError, match="is made from itself: grpo <- tokenizer <- grpo"):
            ancestry(tmp_path, "grpo")
