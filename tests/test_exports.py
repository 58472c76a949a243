"""The public names: sorted, complete, found only when they are asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import farthing

INIT = Path(farthing.__file__)


def test_public_names_are_sorted_and_without_repeats() -> None:
    assert farthing.__all__ == sorted(set(farthing.__all__))


def test_every_public_name_can_be_had() -> None:
    for name in farthing.__all__:
        assert getattr(farthing, name) is not None
        assert name in dir(farthing)


def test_the_type_checker_sees_the_same_names_as_the_program() -> None:
    body = ast.parse(INIT.read_text(encoding="utf-8")).body
    block = next(node for node in body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(farthing.__all__)
    assert seen == set(farthing._WHERE)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"Engine.*load_model.*tasks"):
        farthing.Enigne  # noqa: B018


def test_importing_the_package_loads_nothing_else() -> None:
    program = "import sys; old = set(sys.modules); import farthing; print(sorted(set(sys.modules) - old))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=INIT.parents[1], check=True
    )
    loaded = ast.literal_eval(done.stdout)
    assert "farthing" in loaded
    assert [name for name in loaded if name.startswith(("farthing.", "torch", "pydantic", "rich"))] == []
