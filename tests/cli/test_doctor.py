"""`farthing doctor`: what it prints, what it cannot know yet, and the exit code that says a recipe cannot learn."""

import json
from pathlib import Path

import pytest

from farthing.cli.main import run_command_line
from farthing.models.checkpoint import save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "recipes" / "tiny.toml"


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A model that has learnt nothing."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, qk_norm=True, tie_word_embeddings=True,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("untrained") / "model"
    save_model(initialise(Decoder(config), 0), tokenizer, path)
    return path


def recipe(folder: Path, model: Path, task: str = 'name = "countdown"', rl: str = "") -> str:
    path = folder / "recipe.toml"
    path.write_text(
        f'name = "r"\nstages = ["grpo"]\n[task]\n{task}\n[model]\npath = "{model}"\n'
        f"[grpo]\nprompts_per_step = 3\nsamples_per_prompt = 4\nmax_new_tokens = 48\n{rl}\n"
    )
    return str(path)


def test_before_there_is_a_model_it_says_what_it_cannot_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["doctor", str(TINY)]) == 0
    said = capsys.readouterr().out
    assert "no model yet ([pretrain] makes it)" in said
    assert "8 of 8 accepted" in said and "Not checked yet: attainable reward, end of a turn" in " ".join(
        said.split()
    )
    assert f"doctor {TINY} --run-dir RUN" in said


def test_a_model_that_has_learnt_nothing_cannot_be_trained_by_rewards(
    untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["doctor", recipe(tmp_path, untrained), "--set", "grpo.steps=5"]) == 2
    out, err = capsys.readouterr()
    assert "prompt: <|user|>Use " in out and "refuse: signal: every sample got the reward 0" in " ".join(
        out.split()
    )
    assert err.count("\n") == 1 and err.startswith("farthing: [grpo] cannot learn: ")
    assert "of 64 samples" in out, "more than the step's own 12, which would prove little"


def test_json_holds_every_finding(
    untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["doctor", recipe(tmp_path, untrained), "--json"]) == 2
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    verdicts = {found["check"]: found["verdict"] for found in stage["findings"]}
    assert (stage["stage"], stage["model"]) == ("grpo", str(untrained))
    assert (
        verdicts["gold answers"] == verdicts["sampler = learner"] == "ok" and verdicts["signal"] == "refuse"
    )
    assert all(found["remedy"] for found in stage["findings"] if found["verdict"] in ("warn", "refuse"))


def test_what_a_run_has_made_is_used(
    untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    for name, what, output in (("tokenizer", "tokenizer", untrained), ("pretrain", "model", untrained)):
        folder = run / "stages" / name
        folder.mkdir(parents=True)
        (folder / "artifact.json").write_text(json.dumps({"stage": name, "outputs": {what: str(output)}}))
    (run / "config.json").write_text(json.dumps({"recipe": {}}))
    settings = ["--set", "grpo.prompts_per_step=2", "--set", "grpo.max_new_tokens=24"]
    assert run_command_line(["doctor", str(TINY), "--run-dir", str(run), *settings, "--json"]) == 2
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["model"] == str(untrained) and stage["waits_for"] == "pretrain"
    (run / "stages" / "pretrain" / "artifact.json").unlink()
    assert run_command_line(["doctor", str(TINY), "--run-dir", str(run), "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    known = {found["check"] for found in stage["findings"] if found["verdict"] == "ok"}
    assert stage["model"] is None and "attainable reward" in known, "the tokenizer is there already"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--run-dir", "nowhere"], "nowhere is not a run directory"),
        (["--set", 'stages=["tokenizer"]'], 'add "pretrain" to stages'),
        (["--set", "grpo.top_p=0.9"], "top_p is for talking"),
    ],
)
def test_mistakes_are_one_line(change: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["doctor", str(TINY), *change]) == 2
    assert words in capsys.readouterr().err


def test_a_recipe_without_rewards_has_nothing_to_examine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["doctor", str(ROOT / "recipes" / "speedrun_control.toml")]) == 2
    assert 'no stage of kind "grpo"' in capsys.readouterr().err


def test_a_failing_verifier_is_refused_before_anything_is_sampled(
    untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rewards.py").write_text("def reward(completion, **row):\n    return undefined\n")
    (tmp_path / "q.jsonl").write_text(
        "".join(json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) + "\n" for n in range(40))
    )
    task = f'name = "jsonl"\npath = "{tmp_path}/q.jsonl"\nverifier = "{tmp_path}/rewards.py:reward"'
    assert run_command_line(["doctor", recipe(tmp_path, untrained, task)]) == 2
    assert "fails on the task's own gold answers: NameError" in " ".join(capsys.readouterr().err.split())
