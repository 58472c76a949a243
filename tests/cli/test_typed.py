"""Commands to type next are ones this person's shell finds."""

from pathlib import Path

import pytest

from farthing.cli.typed import command, same_command


def test_a_program_on_the_path_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "farthing"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(program), "run", "a b.toml"])
    assert same_command() == "farthing run 'a b.toml'"


def test_a_program_in_a_virtual_environment_is_its_path_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv/bin/farthing")])
    assert command("chat", Path("runs/x")) == ".venv/bin/farthing chat runs/x"


def test_a_module_is_run_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/checkout/farthing/__main__.py"])
    assert command("chat", "x") == "python -m farthing chat x"
