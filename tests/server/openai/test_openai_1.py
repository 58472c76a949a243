"""The tests of the official client again, with its first generation.

Two generations cannot be installed side by side, so FARTHING_OPENAI_1 names a folder of its own:
`pip install --target FOLDER "openai<2"`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("FARTHING_OPENAI_1")
HERE = Path(__file__).parent


@pytest.mark.skipif(FOLDER is None, reason="FARTHING_OPENAI_1 names no folder with openai 1.x in it")
def test_the_first_generation_of_the_client_is_served_as_well() -> None:
    files = sorted(path for path in HERE.glob("test_*.py") if "import openai\n" in path.read_text())
    paths = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    program = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *map(str, files),
    ]
    check = "import openai, sys; sys.exit(openai.__version__.partition('.')[0] != '1')"
    environment = os.environ | {"PYTHONPATH": paths}
    assert subprocess.run([sys.executable, "-c", check], env=environment, timeout=60).returncode == 0
    done = subprocess.run(
        program, env=environment, cwd=HERE.parents[2], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert len(files) > 1
