"""The commands on a real model: tiny, untrained, and saved as a run would save it."""

import io
import json
from pathlib import Path

import pytest

from farthing.cli.evaluate import chosen_task
from farthing.cli.main import run_command_line
from farthing.errors import UserError
from farthing.models.checkpoint import save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model_dir(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that believes it was trained on countdown."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=128,
        qk_norm=True,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_id,
    )
    directory = tmp_path_factory.mktemp("models") / "tiny"
    card = {"task": {"name": "countdown", "settings": {"count": 3}}, "max_new_tokens": 24}
    save_model(initialise(Decoder(config), seed=0), tokenizer, directory, extra=card)
    return directory


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    told: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return told


def test_generate_ends_with_one_line_of_json(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["generate", str(model_dir), "--prompt", "Use 3, 5 and 8 to make 24.", "--json"]
    assert run_command_line([*ask, "--max-new-tokens", "12"]) == 0
    told = last_line(capsys)
    assert told["prompt"] == "<|user|>Use 3, 5 and 8 to make 24.<|assistant|>"
    assert told["finish_reason"] in ("stop", "length")
    assert 1 <= len(told["token_ids"]) <= 12  # type: ignore[arg-type]
    assert run_command_line(ask) == 0
    assert last_line(capsys)["tokens"] <= 24  # type: ignore[operator]


def test_the_same_seed_gives_the_same_text_and_another_seed_another(
    model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for seed in ("1", "1", "2"):
        assert run_command_line(["generate", str(model_dir), "--prompt", "a", "--seed", seed, "--json"]) == 0
        told.append(last_line(capsys)["token_ids"])
    assert told[0] == told[1] != told[2]


def test_raw_continues_the_text_as_it_stands(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["generate", str(model_dir), "--prompt", "3*8", "--raw", "--json"]) == 0
    assert last_line(capsys)["prompt"] == "3*8"


def test_without_json_the_text_is_all_there_is(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["generate", str(model_dir), "--prompt", "a", "--temperature", "0"]
    assert run_command_line([*ask, "--json"]) == 0
    text = last_line(capsys)["text"]
    assert run_command_line(ask) == 0
    assert capsys.readouterr().out == f"{text}\n"


def test_a_prompt_that_does_not_fit_is_one_line(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["generate", str(model_dir), "--prompt", "3 " * 500]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "128" in error


def test_chat_reads_lines_until_they_end(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("3 5 8 = 24\n\nhello\n/quit\nnever read\n"))
    assert run_command_line(["chat", str(model_dir)]) == 0
    page = capsys.readouterr().out
    assert "one kind of problem, countdown" in page
    assert "Use 3, 5 and 8 to make 24." in page
    assert page.count("✓") + page.count("✗") == 2


def test_a_damaged_model_is_one_line(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in model_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert run_command_line(["generate", str(tmp_path), "--prompt", "a"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "model.safetensors" in error


def test_a_model_without_a_tokenizer_says_so(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((model_dir / name).read_bytes())
    assert run_command_line(["chat", str(tmp_path)]) == 2
    assert "no tokenizer" in capsys.readouterr().err


def test_eval_ends_with_one_line_of_json(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["eval", str(model_dir), "--task", "countdown", "--n", "5", "--samples", "2", "--json"]
    assert run_command_line(ask) == 0
    told = last_line(capsys)
    assert (told["task"], told["n"], told["samples"]) == ("countdown", 5, 2)
    assert {"pass@1", "pass@1_interval", "pass@2", "cons@2", "mean_length", "truncated", "unparsable"} <= set(
        told
    )
    assert run_command_line(ask) == 0
    assert last_line(capsys) == told


def test_eval_asks_for_the_task_it_was_trained_on(
    model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["eval", str(model_dir), "--n", "3", "--samples", "1"]) == 0
    page = capsys.readouterr().out
    assert "countdown" in page
    assert "pass@1" in page
    assert "cons" not in page


def test_a_model_that_nobody_trained_on_a_task_is_asked_for_one(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in model_dir.iterdir():
        if file.name != "farthing.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert run_command_line(["eval", str(tmp_path)]) == 2
    assert "--task countdown" in capsys.readouterr().err


def test_compare_pairs_two_models_on_the_same_problems(
    model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["compare", str(model_dir), str(model_dir), "--n", "3", "--samples", "2"]
    assert run_command_line([*ask, "--json"]) == 0
    told = last_line(capsys)
    assert {"a", "b", "task", "difference", "interval", "p_better"} <= set(told)
    assert (told["a"], told["task"], told["difference"], told["p_better"]) == (
        str(model_dir),
        "countdown",
        0.0,
        0.5,
    )
    assert run_command_line(ask) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no difference can be told from 3 problems"


def test_a_model_of_several_tasksets_is_asked_by_the_names_of_its_recipe(tmp_path: Path) -> None:
    trained = {
        "words": {"name": "stories", "settings": {"steps": [1], "languages": ["pt"]}},
        "countdown": {"name": "countdown"},
    }
    chosen = chosen_task(tmp_path, {"tasks": trained}, "words", {"max_number": 9})
    assert (chosen.name, chosen.settings.steps, chosen.settings.max_number) == ("stories", [1], 9)
    assert chosen_task(tmp_path, {"tasks": trained}, "stories", {}).settings.steps == [1, 2, 3]
    with pytest.raises(UserError, match="choose --task words or --task countdown"):
        chosen_task(tmp_path, {"tasks": trained}, None, {})
