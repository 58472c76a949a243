"""Every kind of stage in one run, left alone and killed: what each leaves for the next, and that it is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.kill import result
from farthing.cost import ledger
from farthing.data.conversations import read_conversations
from farthing.recipe import read
from farthing.report.curves import stage_charts
from farthing.report.reading import read_run
from farthing.runs import metrics
from farthing.runs.files import read_lines
from farthing.stages.kinds import KINDS
from farthing.stages.rejection import weights_digest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "all_stages.toml"


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, on_one_core: Callable[..., str]
) -> tuple[Path, dict[str, Any]]:
    """(the run left alone, what bench/kill.py says of one that was killed twice)."""
    work = tmp_path_factory.mktemp("stages")
    arguments = ["--recipe", RECIPE, "--kills", 2, "--per-run", 2, "--work", work, "--json"]
    return work / "alone", json.loads(on_one_core(ROOT / "bench" / "kill.py", *arguments))


@pytest.fixture(scope="module")
def alone(killed: tuple[Path, dict[str, Any]]) -> Path:
    return killed[0]


def test_the_recipe_has_every_kind_of_stage() -> None:
    assert {stage.kind for stage in read(RECIPE).stages} == set(KINDS)


def test_a_killed_run_ends_as_the_run_left_alone(killed: tuple[Path, dict[str, Any]]) -> None:
    alone, said = killed
    assert (said["kills"], said["different"]) == (2, [])
    compared = result(alone)
    for stage in read(RECIPE).stages:
        if KINDS[stage.kind].makes_model:
            assert f"stages/{stage.name}/model/model.safetensors" in compared
        if KINDS[stage.kind].writes_conversations:
            assert f"stages/{stage.name}/conversations.jsonl" in compared


def test_conversations_carry_their_lineage(alone: Path) -> None:
    rows = read_lines(alone / "stages" / "cold" / "conversations.jsonl")
    said = json.loads((alone / "stages" / "cold" / "selection.json").read_text())
    assert said["rows"] == len(rows) >= said["kept"] > 0
    assert said["asked"] == 12 * 4 == said["kept"] + sum(said["rejected"].values())
    model = weights_digest(alone / "stages" / "zero" / "model")
    for row in rows:
        assert row["lineage"]["model"] == said["model"] == model
        assert (row["lineage"]["stage"], row["lineage"]["task"]) == ("cold", "countdown")
        assert {"problem", "sample", "seed", "correct", "parts"} <= set(row["lineage"])
    assert len(read_conversations(alone / "stages" / "cold" / "conversations.jsonl", {})) == len(rows)


def test_every_step_is_logged_once_and_drawn(alone: Path) -> None:
    steps: dict[str, list[int]] = {}
    for record in metrics.read(alone / "metrics.jsonl"):
        steps.setdefault(record["stage"], []).append(record["step"])
    assert steps["cold"] == [1, 2, 3] and steps["cold_sft"] == [1, 2, 3, 4]
    charts = {chart["name"]: chart for chart in stage_charts(read_run(alone), [])}
    losses = next(panel for panel in charts["cold_sft"]["panels"] if panel["id"] == "loss")
    assert losses["large"] and [line["key"] for line in losses["series"]] == ["loss", "heldout_loss"]


def test_every_stage_is_paid_for(alone: Path) -> None:
    entries = ledger.read(alone / "ledger.jsonl")
    ledger.balance(entries)
    for stage, kind in (("cold", "generate"), ("cold_sft", "train"), ("cold_sft", "evaluate")):
        own = [entry for entry in entries if (entry.stage, entry.kind) == (stage, kind)]
        assert own and all(entry.tokens > 0 and entry.flops > 0 for entry in own), (stage, kind)
