"""`farthing inspect` and `farthing export` on a small model."""

import json
from pathlib import Path

import pytest

from farthing.cli.inspect import amount, size
from farthing.cli.main import run_command_line
from farthing.models.checkpoint import save_model
from farthing.models.config import MLAConfig, ModelConfig, MoEConfig
from farthing.models.decoder import Decoder, initialise
from farthing.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def run_dir(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory whose final model has latents and experts."""
    config = ModelConfig(
        tokenizer.vocab_size,
        32,
        40,
        2,
        4,
        4,
        18,
        model_type="deepseek_v3",
        mla=MLAConfig(12, 10, 8, 14),
        moe=MoEConfig(8, 3, 20, 1, scoring_func="sigmoid", selection_bias=True, n_group=4, topk_group=2),
        num_nextn_predict_layers=1,
    )
    directory = tmp_path_factory.mktemp("run")
    (directory / "recipe.toml").write_text("")
    save_model(initialise(Decoder(config), seed=0), tokenizer, directory / "model")
    return directory


def test_inspect_says_what_a_person_wants_to_know(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["inspect", str(run_dir)]) == 0
    told = capsys.readouterr().out
    for words in (
        "deepseek_v3 (DeepseekV3ForCausalLM)",
        "active per token",
        "that predict further tokens",
        "one latent of 20; a token's cache is 80 bytes",
        "3 of 8 and 1 shared, in 2 layers",
        "missing     nothing",
    ):
        assert words in told
    assert run_command_line(["inspect", str(run_dir / "model" / "config.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == ["weights", "tokenizer"] and found["parameters"]["mtp"] > 0


def test_inspect_of_nothing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["inspect", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_export_writes_and_says_what_it_wrote(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["export", str(run_dir), str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    told = capsys.readouterr().out
    assert "read back and found the same" in told and "rounding moved the logits" in told
    assert run_command_line(["export", str(tmp_path / "out"), str(tmp_path / "again"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["moved"] == 0
    assert run_command_line(["export", str(run_dir), str(tmp_path / "third"), "--dtype", "int3"]) == 2
    assert "choose one of" in capsys.readouterr().err


def test_amounts_and_sizes() -> None:
    assert [amount(n) for n in (671_026_404_352, 656_000, 12)] == ["671.026B", "0.656M", "12"]
    assert [size(n) for n in (80, 70_272, 1.5e12)] == ["80 bytes", "68.62 KiB", "1.364 TiB"]
