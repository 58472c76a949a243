"""Documentation is checked, not trusted."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE_PATH = re.compile(r"`((?:farthing|recipes|docs|bench|tests|\.ci)/[\w./-]+\.(?:py|toml|md|html|png))`")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_what_the_code_says(generator: ModuleType) -> None:
    for path, text in generator.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: make docs"


def test_every_recipe_key_says_what_it_means(generator: ModuleType) -> None:
    wordless = [
        f"{title}: {key}"
        for title, model in generator.recipe_tables().items()
        for key, field in model.model_fields.items()
        if not field.description
    ]
    assert not wordless, f"give these a description: {wordless}"


def test_every_command_and_option_says_what_it_means(generator: ModuleType) -> None:
    for name, command in generator.commands():
        assert command.__doc__, name
        for parameter in generator.signature(command):
            shown, meaning, _ = generator.argument(parameter)
            assert meaning, f"{name} {shown} has no help"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:", "#")):
            continue
        assert (page.parent / unquote(target.partition("#")[0])).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_the_text_exist(page: Path) -> None:
    missing = [
        name for name in CODE_PATH.findall(page.read_text(encoding="utf-8")) if not (ROOT / name).exists()
    ]
    assert not missing, f"{page.name} names {missing}"


def test_commands_shown_in_the_readme_exist(generator: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    known = {name.split()[1] for name, _ in generator.commands()}
    used = set(re.findall(r"^\s*(?:\.venv/bin/)?farthing ([a-z]+)", text, flags=re.M))
    assert used
    assert used <= known
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    assert set(re.findall(r"^\s*make (\w+)", text, flags=re.M)) <= targets


def test_the_changelog_has_this_version() -> None:
    import farthing

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text or f"## [{farthing.__version__}]" in text


def test_the_architecture_page_has_a_line_for_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (ROOT / "farthing").glob("*/__init__.py")}
    assert packages
    missing = [name for name in sorted(packages) if f"`{name}/`" not in text]
    assert not missing, f"docs/architecture.md says nothing of {missing}"


def test_every_recipe_is_toml_with_a_name() -> None:
    for path in (ROOT / "recipes").glob("*.toml"):
        assert tomllib.loads(path.read_text(encoding="utf-8")).get("name"), path.name


def test_a_stale_page_is_noticed(generator: ModuleType) -> None:
    page = "by hand\n<!-- generated: x -->\nold\n<!-- end -->\n"
    assert generator.fill(page, {"x": "new\n"}) == page.replace("old", "new")
    with pytest.raises(SystemExit, match="marked 'y'"):
        generator.fill(page, {"y": ""})
