"""`farthing doctor`: what it prints, what it cannot know yet, the exit code that says a recipe cannot learn, and the
traps that others fell into, each as a recipe."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farthing import tasks
from farthing.cli.main import run_command_line
from farthing.engine.api import Completion, Request
from farthing.engine.engine import Engine
from farthing.models.checkpoint import load_model, save_model
from farthing.models.config import ModelConfig
from farthing.models.decoder import Decoder, initialise
from farthing.stages import policy
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


def questions(folder: Path, **columns: str) -> str:
    """The path of a file of sums, its columns called as asked for."""
    question, answer = columns.get("question", "question"), columns.get("answer", "answer")
    rows = [{question: f"{n} + 1?", answer: str(n + 1)} for n in range(40)]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"{folder}/q.jsonl"


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
    task = f'name = "jsonl"\npath = "{questions(tmp_path)}"\nverifier = "{tmp_path}/rewards.py:reward"'
    assert run_command_line(["doctor", recipe(tmp_path, untrained, task)]) == 2
    assert "fails on the task's own gold answers: NameError" in " ".join(capsys.readouterr().err.split())


# ---- the traps that docs/doctor.md lists, each as the recipe that falls into it


@pytest.mark.parametrize(
    ("rl", "words"),
    [
        ("num_generations = 8", "here it is samples_per_prompt ("),
        (
            "per_device_train_batch_size = 8",
            "here it is prompts_per_step (different problems in a step) and samples_p",
        ),
        ("ppo_mini_batch_size = 64", "here it is updates_per_rollout ("),
        ("gradient_accumulation_steps = 4", "here it is microbatch_tokens ("),
    ],
)
def test_batches_in_other_words(
    rl: str, words: str, untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["doctor", recipe(tmp_path, untrained, rl=rl)]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_columns_of_other_names(untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = questions(tmp_path, question="problem", answer="solution")
    assert run_command_line(["doctor", recipe(tmp_path, untrained, f'name = "jsonl"\npath = "{path}"')]) == 2
    assert 'did you mean columns.question = "problem"?' in capsys.readouterr().err


def finding(capsys: pytest.CaptureFixture[str], path: str, check: str) -> dict[str, Any]:
    """What the doctor says under `check` of a recipe; its exit code says whether anything is refused."""
    code = run_command_line(["doctor", path, "--json"])
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert (code == 2) == any(found["verdict"] == "refuse" for found in stage["findings"])
    (found,) = [found for found in stage["findings"] if found["check"] == check]
    return dict(found)


@pytest.mark.parametrize(("opening", "verdict"), [("<think>\\n", "ok"), ("<answer>", "refuse")])
def test_a_template_that_writes_a_part_of_the_turn(
    opening: str, verdict: str, tokenizer: Tokenizer, untrained: Path, tmp_path: Path, capsys: Any
) -> None:
    """Thinking that the template begins counts for the format; an answer that it begins can never be in form."""
    model, _ = load_model(untrained)
    header = "{%- if add_generation_prompt -%}\n{{- '<|assistant|>' -}}"
    template = tokenizer.chat_template.replace(header, f"{header}{{{{- '{opening}' -}}}}")
    assert template != tokenizer.chat_template
    save_model(
        model,
        Tokenizer(tokenizer.definition, {**tokenizer.config, "chat_template": template}),
        tmp_path / "m",
    )
    found = finding(capsys, recipe(tmp_path, tmp_path / "m"), "attainable reward")
    assert found["verdict"] == verdict
    assert verdict == "ok" or "the template begins the turn with '<answer>'" in found["sentence"]


@pytest.mark.parametrize(
    ("reward", "verdict", "words"),
    [
        ("0.0", "refuse", "every sample got the reward 0"),
        (
            "float(int(question.split()[0]) % 2)",
            "refuse",
            "rewards differ between problems and never within a group",
        ),
        ("len(completion) % 2 if question == FIRST else 0.0", "warn", "94% of the groups teach nothing"),
    ],
)
def test_groups_that_teach_nothing(
    reward: str, verdict: str, words: str, untrained: Path, tmp_path: Path, capsys: Any
) -> None:
    """A loss of zero is explained, and groups without signal are counted before they are paid for."""
    path = questions(tmp_path)
    first = tasks.load("jsonl", path=path).problem("train", 0)["question"]
    (tmp_path / "rewards.py").write_text(
        f"FIRST = {first!r}\n\ndef reward(completion, question, **row):\n    return {reward}\n"
    )
    task = f'name = "jsonl"\npath = "{path}"\nverifier = "{tmp_path}/rewards.py:reward"'
    found = finding(capsys, recipe(tmp_path, untrained, task, "rewards = {accuracy = 1.0}"), "signal")
    assert found["verdict"] == verdict and words in found["sentence"] and found["remedy"]


@pytest.mark.parametrize(
    ("check", "words"),
    [("room", "even the shortest gold answer"), ("truncation", "cut off before an answer")],
)
def test_completions_that_are_cut_off(
    check: str, words: str, untrained: Path, tmp_path: Path, capsys: Any
) -> None:
    path = Path(recipe(tmp_path, untrained))
    path.write_text(path.read_text().replace("max_new_tokens = 48", "max_new_tokens = 2"))
    found = finding(capsys, str(path), check)
    assert found["verdict"] == ("refuse" if check == "room" else "warn") and words in found["sentence"]


class Shifted(Engine):
    """Writes down the log-probability of the token before: the classic slip of padding and positions."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        drawn = super().generate(requests)
        return [replace(one, sampling_logprobs=[0.0, *one.sampling_logprobs[:-1]]) for one in drawn]


def test_a_sampler_whose_tokens_are_shifted(
    untrained: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "Engine", Shifted)
    found = finding(capsys, recipe(tmp_path, untrained), "sampler = learner")
    assert found["verdict"] == "refuse" and "sampler and learner disagree" in found["sentence"]
