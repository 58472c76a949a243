"""What pyproject.toml asks for is what the code imports, and the module it names is the one that needs it."""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "farthing"
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]

# Distributions whose import has another name.
IMPORTED_AS = {"math-verify": "math_verify", "reasoning-gym": "reasoning_gym"}
# What a declared library brings along and shows in its interface.
COMES_WITH = {
    "pydantic_core": "pydantic",
    "regex": "transformers",
    "httpx": "openai",
    "latex2sympy2_extended": "math-verify",
    "sympy": "math-verify",
}


def distribution(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match, requirement
    return match[0]


def declared(*extras: str) -> set[str]:
    optional = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    return {distribution(line) for line in lines}


@cache
def third_party_imports(folder: Path = PACKAGE) -> dict[str, list[str]]:
    """Top-level name of each foreign library -> the modules that import it."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {name.split(".")[0] for name in names} - {"farthing", *sys.stdlib_module_names}:
                found.setdefault(name, []).append(str(path.relative_to(folder)))
    return found


def test_every_import_is_declared() -> None:
    known = {IMPORTED_AS.get(name, name) for name in declared("gym", "gguf", "cluster", "track")} | set(
        COMES_WITH
    )
    undeclared = {name: where for name, where in third_party_imports().items() if name not in known}
    assert not undeclared


def test_the_tests_import_what_dev_installs() -> None:
    beside = {"bench", "tests", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    known = {IMPORTED_AS.get(name, name) for name in declared("dev")} | set(COMES_WITH) | beside
    unknown = {
        name: where for name, where in third_party_imports(ROOT / "tests").items() if name not in known
    }
    assert not unknown


def test_every_core_dependency_is_imported() -> None:
    used = set(third_party_imports())
    idle = [name for name in declared() if IMPORTED_AS.get(name, name) not in used]
    assert not idle


def test_every_line_names_a_module_that_exists_and_needs_it() -> None:
    lines = re.findall(r'^    "([^"]+)",\s*# (\S+\.py)', PYPROJECT, flags=re.M)
    assert {distribution(requirement) for requirement, _ in lines} >= declared()
    for requirement, module in lines:
        name = distribution(requirement)
        path = PACKAGE / module
        if path.parent.is_dir():
            # Extras are imported by name when they are asked for, so the name is looked for in the text.
            assert re.search(rf"\b{IMPORTED_AS.get(name, name)}\b", path.read_text()), (
                f"{module} has no {name}"
            )


def test_the_pinned_torch_is_one_that_we_say_we_work_with() -> None:
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.M))
    floor = next(line for line in PROJECT["dependencies"] if line.startswith("torch"))
    lowest = tuple(map(int, floor.removeprefix("torch>=").split(".")))
    assert tuple(map(int, pins["torch"].split("."))) >= lowest
