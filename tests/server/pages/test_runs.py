"""The page of runs: what `farthing report` knows of each run of a directory, again whenever something changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from farthing.errors import UserError
from farthing.report.gather import gather
from farthing.server.pages.run_routes import RunRoutes


def write_run(path: Path, *, reward: float = 0.25, steps: Sequence[int] = (1,)) -> Path:
    """As little as makes a run: one stage that learns, one logged step, one group at each of `steps`."""
    path.mkdir(parents=True)
    recipe = {"name": "small", "stages": ["grpo"], "task": {"name": "countdown"}, "grpo": {"steps": 4}}
    status = {
        "state": "interrupted",
        "stage": "grpo",
        "stages": {"grpo": {"state": "running", "step": 1, "steps": 4}},
    }
    sample = {
        "text": "<think>a</think><answer>b</answer>",
        "reward": 1.0,
        "correct": 1.0,
        "answer": "b",
        "tokens": 4,
    }
    group = {"stage": "grpo", "problem": {"question": "q"}, "prompt": "q", "samples": [sample] * 2}
    (path / "recipe.toml").write_text("name = 'small'\n")
    (path / "config.json").write_text(json.dumps({"recipe": recipe}))
    (path / "status.json").write_text(json.dumps(status))
    groups = [json.dumps(group | {"step": step}) + "\n" for step in steps]
    (path / "samples.jsonl").write_text("".join(groups))
    metric = {"stage": "grpo", "step": 1, "time": 1.0, "reward": reward, "eval/pass@1": 0.5}
    (path / "metrics.jsonl").write_text(json.dumps(metric) + "\n")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "one")
    (folder / "no run").mkdir()
    (folder / "file").write_text("")
    return folder


@pytest.fixture(scope="module")
def watched(start_server: Any, model_directory: Path, runs: Path) -> Any:
    return start_server([("tiny", model_directory)], runs=str(runs), wait=False)


def test_every_run_is_listed_with_where_it_stands(watched: Any) -> None:
    (run,) = watched.get("/api/runs").json()["runs"]
    assert {key: run[key] for key in ("name", "state", "stage", "step", "steps", "task")} == {
        "name": "one", "state": "interrupted", "stage": "grpo", "step": 1, "steps": 4,
        "task": "countdown",
    }  # fmt: skip


def test_a_run_is_the_document_of_its_report_and_read_again_when_it_changes(watched: Any, runs: Path) -> None:
    answer = watched.get("/api/runs/one")
    embedded = json.loads(json.dumps(gather(runs / "one")))
    apart = {"samples": {"groups": [], "steps": [["grpo", 1, ["right"]]], "steps_total": 1, "steps_shown": 1}}
    assert answer.json() == embedded | apart
    tag = {"if-none-match": answer.headers["etag"]}
    assert watched.get("/api/runs/one", headers=tag).status_code == 304
    with (runs / "one" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "grpo", "step": 2, "time": 2.0, "reward": 0.75}) + "\n")
    again = watched.get("/api/runs/one", headers=tag)
    assert again.status_code == 200
    assert again.json()["stages"][0]["axis"]["step"] == [1, 2]


@pytest.mark.parametrize(
    "name", ["absent", "no run", "file", "..", "%2e%2e", "..%2fruns%2fone", "one%2fstages"]
)
def test_names_are_looked_up_and_never_made_into_paths(watched: Any, name: str) -> None:
    assert watched.get(f"/api/runs/{name}").status_code == 404


def test_the_samples_of_any_step_are_read_when_they_are_asked_for(watched: Any, runs: Path) -> None:
    (group,) = gather(runs / "one")["samples"]["groups"]
    answer = watched.get("/api/runs/one/samples", params={"stage": "grpo", "step": 1})
    assert answer.json() == {"groups": [group]}
    for stage, step in (("grpo", 2), ("sft", 1), ("grpo", "inf")):
        empty = watched.get("/api/runs/one/samples", params={"stage": stage, "step": step})
        assert empty.json() == {"groups": []}
    for wanted, steps in (("ANSWER>B", [["grpo", 1]]), ("nowhere", [])):
        assert watched.get("/api/runs/one/samples", params={"find": wanted}).json() == {"steps": steps}
    assert watched.get("/api/runs/one/samples", params={"stage": "grpo", "step": "x"}).status_code == 400
    assert watched.get("/api/runs/absent/samples", params={"stage": "grpo", "step": 1}).status_code == 404


def test_the_page_is_there_only_where_runs_are_served(watched: Any, server: Any) -> None:
    assert "report.js" in watched.get("/runs/one").text
    assert watched.get("/api/pages").json() == {"runs": True}
    assert server.get("/runs").status_code == 404
    assert server.get("/api/pages").json() == {"runs": False}


def test_a_directory_that_holds_no_runs_is_refused_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        RunRoutes(tmp_path / "absent")
    run = write_run(tmp_path / "run")
    with pytest.raises(UserError, match=f"--runs {tmp_path}$"):
        RunRoutes(run)
    shutil.rmtree(run)
    RunRoutes(tmp_path)
