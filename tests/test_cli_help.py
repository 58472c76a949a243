"""`farthing --help` answers at once because it loads nothing heavy; `bench/` measures how fast, this holds why."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from farthing.cli.main import COMMANDS, GROUPS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "numpy", "rich", "jinja2", "tokenizers", "transformers", "sympy", "starlette", "asyncio"}
PROGRAM = """
import json, sys
from farthing.cli.main import run_command_line
code = run_command_line(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def ask(*arguments: str) -> tuple[str, int, set[str]]:
    """What is printed, the exit code and the modules loaded, in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    told = json.loads(done.stderr.splitlines()[-1])
    return done.stdout, told["code"], set(told["modules"])


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    shown, code, modules = ask(*arguments)
    assert code == 0
    assert "Usage: farthing" in shown
    assert sorted(modules & (HEAVY | {"pydantic"})) == []


@pytest.mark.parametrize("arguments", [[], ["run", "--help"], ["tasks", "--help"], ["chat", "--help"]])
def test_help_on_a_command_loads_no_more_than_the_parser_of_arguments_does(arguments: list[str]) -> None:
    shown, code, modules = ask(*arguments)
    assert code == 0
    assert "Usage: farthing" in shown
    assert sorted(modules & HEAVY) == []


def test_help_names_every_command() -> None:
    shown, _, _ = ask("--help")
    words = set(shown.split())
    assert set(COMMANDS) | set(GROUPS) <= words


def test_the_first_sentence_of_each_command_fits_on_its_line() -> None:
    shown, _, _ = ask("--help")
    assert "..." not in shown.split("Commands:")[1]


def test_the_version_is_printed() -> None:
    import farthing

    shown, code, _ = ask("--version")
    assert (shown, code) == (f"farthing {farthing.__version__}\n", 0)


def test_the_module_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "farthing", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.startswith("farthing ")
