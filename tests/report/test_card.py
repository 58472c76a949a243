"""The model card says what the run knows, and nothing else."""

from pathlib import Path
from typing import Any

from farthing.report.card import ancestors, card, languages, write_card
from farthing.report.reading import RunFiles

STAGES: dict[str, Any] = {
    "tokenizer": {},
    "pretrain": {"corpus": {"a": {"source": "countdown_student"}, "b": {"source": "stories_student"}}},
    "zero": {"kind": "grpo", "model": "final"},
    "cold": {"kind": "rejection", "model": "zero"},
    "sft": {"model": "base", "data": [{"stage": "cold"}, {"path": "chat.jsonl"}]},
    "student": {"kind": "distill", "model": "base", "teacher": "sft"},
    "last_eval": {"kind": "evaluate", "model": "final"},
}


def run(path: Path, **recipe: Any) -> RunFiles:
    for stage in ("pretrain", "zero", "sft", "student"):
        (path / "stages" / stage / "model").mkdir(parents=True, exist_ok=True)
    tasks = {"words": {"name": "stories", "languages": ["pt", "zh"]}}
    whole = {"name": "r1", "stages": list(STAGES), "tasks": tasks, **STAGES, **recipe}
    rated = {
        "task": "words",
        "pass@1": 0.25,
        "pass@1_interval": [0.2, 0.3],
        "n": 9,
        "samples": 4,
        "language": 0.9,
    }
    summary = {"evaluations": {"student": {"words": rated}}, "wall_s": 90, "tokens": 2e6, "flops": 3e12}
    return RunFiles(
        path, config={"recipe": whole, "fingerprint": "f" * 64, "version": "1.2"}, summary=summary
    )


def test_lineage_is_what_led_to_the_final_model_and_no_more(tmp_path: Path) -> None:
    found = dict(ancestors(run(tmp_path)))
    assert found == {
        "pretrain": [], "zero": ["pretrain"], "cold": ["zero"], "sft": ["pretrain", "cold"],
        "student": ["pretrain", "sft"],
    }  # fmt: skip


def test_a_stage_that_led_nowhere_is_left_out(tmp_path: Path) -> None:
    found = dict(ancestors(run(tmp_path, student={"kind": "sft", "model": "zero", "data": [{"path": "x"}]})))
    assert set(found) == {"pretrain", "zero", "student"}


def test_a_student_descends_from_its_own_beginning_and_from_its_teacher(tmp_path: Path) -> None:
    """Not from the model that happens to be there when it is made; nor does the base of a checkpoint from a stage."""
    stages = {
        "zero": {"kind": "grpo", "model": "base"},
        "sft": {"kind": "student", "path": "small"},
        "student": {"kind": "distill", "model": "sft", "teacher": "zero"},
    }
    whole = run(tmp_path, stages=list(stages), model={"path": "large"}, **stages)
    assert dict(ancestors(whole)) == {"zero": [], "sft": [], "student": ["sft", "zero"]}
    assert "base_model: small" in card(whole) and "Begun with `small`" in card(whole)


def test_the_card_tells_rates_with_intervals_data_languages_and_limits(tmp_path: Path) -> None:
    told = card(run(tmp_path))
    for words in (
        "language: [pt, zh]", "Portuguese, Chinese", "| student | words | 25.0% [20.0, 30.0] | 90.0% |",
        "`ffffffffffffffff`",
        "- `sft` learnt from `cold`", "- `sft` learnt from `chat.jsonl`", "1.5 minutes",
        "On held-out words 75.0% of its answers were not right.",
    ):  # fmt: skip
        assert words in told
    assert "base_model" not in told


def test_a_checkpoint_is_named_as_the_base(tmp_path: Path) -> None:
    told = card(run(tmp_path, model={"path": "qwen"}))
    assert "base_model: qwen" in told and "Begun with `qwen`" in told


def test_all_languages_of_stories_where_none_is_named(tmp_path: Path) -> None:
    assert languages(run(tmp_path, tasks={"stories": {"name": "stories"}})) == ["en", "pt", "es", "zh"]
    assert languages(run(tmp_path, tasks={"q": {"name": "jsonl", "language": "es"}})) == ["es"]


def test_a_whole_run_has_its_card_beside_the_weights(run_dir: Path) -> None:
    assert write_card(run_dir) is None, "no model was made here"
    (run_dir / "model").mkdir(exist_ok=True)
    (run_dir / "model" / "config.json").write_text("{}")
    written = write_card(run_dir)
    assert written is not None and "## Evaluation" in written.read_text(encoding="utf-8")
