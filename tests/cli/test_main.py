"""Errors become one line and an exit code; bugs stay tracebacks."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from farthing.cli.main import COMMANDS, guarded, run_command_line
from farthing.errors import NumericsError, RecipeError

ROOT = Path(__file__).resolve().parents[2]


def raising(error: BaseException) -> int:
    """The exit code of a guarded command that raises `error`."""

    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as left:
        guarded(command)()
    return left.value.exit_code


def test_a_users_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(RecipeError("x.toml: unknown key\n  did you mean y?")) == 2
    assert capsys.readouterr().err == "farthing: x.toml: unknown key did you mean y?\n"


def test_our_own_failure_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(NumericsError("the loss of step 7 is not finite")) == 1
    assert capsys.readouterr().err == "farthing: the loss of step 7 is not finite\n"


def test_ctrl_c_is_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "farthing: interrupted\n"


def test_a_full_disk_is_the_persons_to_mend(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run/metrics.jsonl")) == 2
    assert capsys.readouterr().err == "farthing: /run/metrics.jsonl: no space left on the device\n"


def test_a_bug_stays_a_traceback() -> None:
    def command() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        guarded(command)()
    with pytest.raises(OSError, match="Bad file descriptor"):
        guarded(lambda: os.close(-1))()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["runn"], "Did you mean"),
        (["run"], "RECIPE"),
        (["run", "x.toml", "--sed", "1"], "--sed"),
        (["run", "x.toml", "--seed", "one"], "--seed"),
        (["eval", "x", "--task", "countdown", "--n", "0"], "--n"),
        (["generate", "x"], "--prompt"),
        (["tasks"], "tasks"),
        (["tasks", "chekc"], "Did you mean"),
    ],
)
def test_bad_usage_is_one_line_that_says_what_to_type(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert says in printed.err
    assert "--help" in printed.err


RECIPE = """
name = "x"
stages = ["tokenizer", "pretrain"]
[task]
name = "countdown"
[model]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
[pretrain]
steps = 2
corpus = {source = "countdown_student"}
"""


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (("steps = 2", "stesp = 2"), [], '"steps"'),
        (("[pretrain]", "[pretrian]"), [], "pretrian"),
        (("steps = 2", "steps = = 2"), [], "malformed TOML"),
        (("steps = 2", 'steps = "two"'), [], "steps"),
        (('"countdown"\n', '"countdwn"\n'), [], "countdown"),
        (('"tokenizer", ', ""), [], "tokenizer"),
        (("", ""), ["--set", "pretrain.stesp=3"], '"steps"'),
        (("", ""), ["--set", "pretrain"], "--set"),
    ],
)
def test_a_bad_recipe_is_one_line_and_leaves_nothing_behind(
    change: tuple[str, str], options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change[0] in RECIPE
    recipe = tmp_path / "x.toml"
    recipe.write_text(RECIPE.replace(*change, 1), encoding="utf-8")
    run_dir = tmp_path / "run"
    assert run_command_line(["run", str(recipe), "--run-dir", str(run_dir), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("farthing: ")
    assert error.count("\n") == 1
    assert says in error
    assert not run_dir.exists()


def test_a_missing_recipe_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["run", str(tmp_path / "none.toml"), "--run-dir", str(tmp_path / "run")]) == 2
    assert "none.toml: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["eval", "generate", "chat", "report"])
def test_a_missing_model_is_one_line(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"eval": ["--task", "countdown"], "generate": ["--prompt", "a"]}.get(verb, [])
    assert run_command_line([verb, str(tmp_path / "nowhere"), *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("farthing: ")
    assert error.count("\n") == 1
    assert "nowhere" in error


def test_an_interrupted_run_says_that_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import farthing.pipeline

    def interrupted(*_: object, **__: object) -> None:
        # What a shell starts in the background ignores the signal, and so does what is started from there.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        finally:
            signal.signal(signal.SIGINT, before)

    monkeypatch.setattr(farthing.pipeline, "run_recipe", interrupted)
    monkeypatch.setattr(sys, "argv", ["/somewhere/farthing", "run", "my recipe.toml"])
    assert run_command_line(["run", "my recipe.toml", "--run-dir", str(tmp_path)]) == 130
    error = capsys.readouterr().err
    assert "the same command goes on: /somewhere/farthing run 'my recipe.toml'" in error


def test_a_closed_pipe_is_not_a_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m farthing --help | true",
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert "Traceback" not in done.stderr


def test_every_command_is_a_file_of_its_own() -> None:
    homes = [command.__module__ for command in COMMANDS.values()]
    assert len(set(homes)) == len(homes)
