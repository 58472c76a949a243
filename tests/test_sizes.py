"""Sizes to feel at home in: no function over 80 lines, no file over 400."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_FUNCTION = 80
MAX_FILE = 400
FOLDERS = ("farthing", "tests", "bench", "docs")


def sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def functions_over(path: Path, limit: int) -> list[str]:
    """Functions whose lines, decorators included, exceed the limit."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = (node.end_lineno or node.lineno) - first + 1
            if lines > limit:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines")
    return found


def test_no_function_is_longer_than_a_screen() -> None:
    assert not [line for path in sources() for line in functions_over(path, MAX_FUNCTION)]


def test_no_file_is_longer_than_a_chapter() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert not [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > MAX_FILE]


def test_the_counter_counts() -> None:
    assert functions_over(Path(__file__), 3)
    assert len(sources()) > 3
