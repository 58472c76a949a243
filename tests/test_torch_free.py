"""Whatever decides without tensors imports without torch, and so without the seconds that torch takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "farthing"

# Modules and packages (with all that is in them) that must import on a machine without torch.
TORCH_FREE = (
    "errors",
    "config",
    "runs",
    "text",
    "tasks",
    "cost",
    "recipe",
    "report",
    "cli",
    "models/config",
    "models/arithmetic",
    "models/families",
    "models/headers",
    "models/inspect",
    "models/sources",
    "engine/api",
    "engine/automaton",
    "engine/blocks",
    "engine/scheduler",
    "engine/sequence",
    "rollout/types",
    "algorithms/advantages",
    "algorithms/presets",
    "algorithms/schedules",
    "algorithms/selection",
    "algorithms/shaping",
    "stages/config",
    "stages/kinds",
    "stages/signs",
    "stages/checks",
    "doctor",
    "draft",
    "stages/evidence",
)

# Raising, not merely absent: a module that survives `except ImportError` has still reached for torch.
PROGRAM = """
import importlib, json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Blocked())
failures = {}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except BaseException as error:
        failures[name] = f"{type(error).__name__}: {error}"
print(json.dumps(failures))
"""


def torch_free_modules() -> list[str]:
    names = ["farthing"]
    for entry in TORCH_FREE:
        path = PACKAGE / entry
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            parts = file.relative_to(ROOT).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def import_without_torch(names: list[str]) -> dict[str, str]:
    """Module -> why it could not be imported, in a fresh interpreter with torch blocked."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    failures: dict[str, str] = json.loads(done.stdout)
    return failures


@pytest.mark.parametrize("entry", TORCH_FREE)
def test_the_list_names_what_exists(entry: str) -> None:
    assert (PACKAGE / entry).is_dir() or (PACKAGE / entry).with_suffix(".py").is_file()


def test_these_modules_import_without_torch() -> None:
    assert import_without_torch(torch_free_modules()) == {}


def test_the_block_blocks() -> None:
    assert "torch was imported" in import_without_torch(["torch"])["torch"]
