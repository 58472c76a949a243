"""The layers of the package, held as data: lower layers never import higher ones, in functions included.

A unit is the longest entry of LAYERS that is a prefix of a module's name. A unit may import any unit of a
lower layer, itself, and the siblings of its own layer that SIBLINGS lists. `TYPE_CHECKING` imports count
(they tie modules together as much as any other), and so do module names written as strings in lazy tables.

Not covered: names put together at run time, and imports through a third package.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "farthing"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "config"),
    ("text", "algorithms", "runs", "models.config", "models.arithmetic"),
    ("models", "data", "tasks", "engine", "cost"),
    ("learner", "rollout"),
    ("backends",),
    ("stages",),
    ("recipe", "cost.planner", "report", "pipeline", "doctor", "draft"),
    ("server", "cli", "__main__"),
)

# importer -> the siblings of its own layer that it may import.
SIBLINGS: dict[str, frozenset[str]] = {
    "config": frozenset({"errors"}),
    "models.arithmetic": frozenset({"models.config"}),
    "data": frozenset({"tasks"}),
    "engine": frozenset({"models"}),
    "cost.planner": frozenset({"recipe"}),
    "pipeline": frozenset({"recipe", "report"}),
    "doctor": frozenset({"recipe", "pipeline"}),
    "cli": frozenset({"server"}),
    "__main__": frozenset({"cli"}),
}

# Libraries that only one place may import, so that replacing one means reading one folder.
ADAPTERS: dict[str, tuple[str, ...]] = {
    "ray": ("backends",),
    "vllm": ("backends",),
    "typer": ("cli",),
    "rich": ("cli",),
    "starlette": ("server",),
    "uvicorn": ("server",),
}

LAYER_OF = {unit: number for number, units in enumerate(LAYERS) for unit in units}
PUBLIC = {"Engine": "engine.engine", "load_model": "models.checkpoint", "tasks": "tasks"}
MODULE_STRING = re.compile(r"farthing\.([a-z_][a-z0-9_.]*)(:\w+)?")


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name without the leading `farthing.`; the root itself is `""`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def unit_of(module: str) -> str | None:
    """The longest unit that is the module or one of its parents."""
    parts = module.split(".")
    candidates = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in candidates if name in LAYER_OF), None)


def absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    """The full dotted name that `from X import ...` names, relative dots resolved."""
    if node.level == 0:
        return node.module or ""
    parts = ["farthing", *(module.split(".") if module else [])]
    if path.name != "__init__.py":
        parts.pop()
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, *((node.module or "").split(".") if node.module else [])])


def inside(target: str) -> str | None:
    """`farthing.a.b` -> the longest existing module of ours among its prefixes; None when it is not ours."""
    if target != "farthing" and not target.startswith("farthing."):
        return None
    parts = target.split(".")[1:]
    if parts and parts[0] in PUBLIC:
        return PUBLIC[parts[0]]
    names = (".".join(parts[:n]) for n in range(len(parts), -1, -1))
    return next(name for name in names if name in modules())


def imported_names(module: str, path: Path) -> Iterator[tuple[str, int]]:
    """Every dotted name the module imports or names in a lazy table, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module, path)
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = MODULE_STRING.fullmatch(node.value)
            if match and match[1] in modules():
                yield f"farthing.{match[1]}", node.lineno


@cache
def edges() -> dict[tuple[str, str], int]:
    """(importer, imported) -> line, between modules of ours. The lazy root is nobody's importer."""
    found: dict[tuple[str, str], int] = {}
    for module, path in modules().items():
        if module == "":
            continue
        for name, line in imported_names(module, path):
            target = inside(name)
            if target is not None and target not in ("", module):
                found.setdefault((module, target), line)
    return found


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if LAYER_OF[imported] < LAYER_OF[importer]:
        return True
    return imported in SIBLINGS.get(importer, ())


def test_every_module_has_a_layer() -> None:
    homeless = [name for name in modules() if name and unit_of(name) is None]
    containers = {unit.split(".")[0] for unit in LAYER_OF if "." in unit}
    homeless = [name for name in homeless if not (name in containers and is_empty(modules()[name]))]
    assert not homeless, f"add these to LAYERS: {homeless}"


def is_empty(path: Path) -> bool:
    """Nothing but a docstring."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def test_lower_layers_never_import_higher_ones() -> None:
    wrong = []
    for (importer, imported), line in edges().items():
        upper, lower = unit_of(importer), unit_of(imported)
        if upper and lower and not may_import(upper, lower):
            place = f"{modules()[importer].relative_to(ROOT)}:{line}"
            wrong.append(f"{place} ({upper}) imports {imported} ({lower})")
    assert not wrong, "\n".join(wrong)


def test_siblings_are_listed_only_where_they_are_used() -> None:
    """A listed edge that nobody uses is a permission somebody will use without thinking."""
    used = {(unit_of(importer), unit_of(imported)) for importer, imported in edges()}
    present = {unit_of(name) for name in modules() if name}
    idle = [
        f"{importer} -> {imported}"
        for importer, siblings in SIBLINGS.items()
        for imported in siblings
        if (importer, imported) not in used and importer in present and imported in present
    ]
    assert not idle, f"remove from SIBLINGS: {idle}"


def test_no_module_is_part_of_an_import_cycle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for importer, imported in edges():
        graph[importer].add(imported)
    cycle = find_cycle(graph)
    assert cycle is None, "import cycle: " + " -> ".join(cycle or [])


def find_cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Depth-first search; the path of the first cycle found, its first module repeated at the end."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str] | None:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return None
        for target in sorted(graph[name]):
            found = visit(target, [*trail, name])
            if found:
                return found
        done.add(name)
        return None

    return next((cycle for name in sorted(graph) if (cycle := visit(name, []))), None)


def test_libraries_behind_an_adapter_are_imported_there_only() -> None:
    wrong = []
    for module, path in modules().items():
        for name, line in imported_names(module, path):
            homes = ADAPTERS.get(name.split(".")[0])
            if homes is not None and module.split(".")[0] not in homes:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}, which belongs in {homes}")
    assert not wrong, "\n".join(wrong)


def test_algorithms_depend_on_nothing_of_ours_but_errors() -> None:
    """A reader of a paper can copy one file."""
    free = ("algorithms", "errors")
    wrong = [f"{a} -> {b}" for a, b in edges() if unit_of(a) == "algorithms" and unit_of(b) not in free]
    assert not wrong


def test_no_family_is_named_in_shared_code() -> None:
    """A family is data: behaviour hangs on a config field, never on `if family == ...`."""
    families = {"deepseek", "qwen", "llama", "ernie", "mistral"}
    others = {"llama3"}  # the name of a kind of rotary scaling, whoever uses it
    wrong = []
    for module, path in modules().items():
        if module.startswith("models.families"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Compare):
                continue
            values = [child.value for child in ast.walk(node) if isinstance(child, ast.Constant)]
            words = {value.lower() for value in values if isinstance(value, str)} - others
            named = [word for word in words if any(word.startswith(family) for family in families)]
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno} compares with {word!r}" for word in named]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("engine", "models", True),
        ("models", "engine", False),
        ("tasks", "text", True),
        ("text", "tasks", False),
        ("learner", "rollout", False),
        ("stages", "learner", True),
        ("cli", "stages", True),
        ("stages", "recipe", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


def test_a_cycle_is_found_when_there_is_one() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
