"""From a path to a model: a model directory, a run directory, or one line saying what to type."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farthing.cli.models import Opened, model_directory
from farthing.errors import CheckpointError


def write(path: Path, text: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_model_directory_is_itself(tmp_path: Path) -> None:
    write(tmp_path / "config.json")
    assert model_directory(tmp_path) == tmp_path


def test_a_run_is_its_final_model_although_it_has_a_config_of_its_own(tmp_path: Path) -> None:
    for name in ("config.json", "recipe.toml", "model/config.json", "base/config.json"):
        write(tmp_path / name)
    assert model_directory(tmp_path) == tmp_path / "model"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["config.json", "recipe.toml", "base/config.json"], "its base is"),
        (["config.json", "recipe.toml"], "no model yet"),
        (["notes.txt"], "neither a model directory"),
    ],
)
def test_anything_else_says_what_is_missing(files: list[str], says: str, tmp_path: Path) -> None:
    for name in files:
        write(tmp_path / name)
    with pytest.raises(CheckpointError, match=says):
        model_directory(tmp_path)
    with pytest.raises(CheckpointError, match="no such directory"):
        model_directory(tmp_path / "nowhere")


@pytest.mark.parametrize(("named", "ids"), [(7, (7,)), ([7, 9], (7, 9)), (None, None)])
def test_the_tokens_that_end_a_turn(
    named: object, ids: tuple[int, ...] | None, opened: Callable[..., Opened], tmp_path: Path
) -> None:
    model = opened()
    write(tmp_path / "generation_config.json", json.dumps({"eos_token_id": named}))
    assert model.stop_token_ids == (ids or (model.tokenizer.eos_id,))
