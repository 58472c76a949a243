"""The files of the pages: made from the sources beside them, complete, and served without opening anything else."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
WEB, STATIC = ROOT / "web", ROOT / "farthing" / "server" / "static"
PALETTE = ROOT / "farthing" / "report" / "static" / "palette.css"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sources() -> list[Path]:
    found = [path for path in WEB.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    return [*found, PALETTE]


def test_the_pages_were_built_from_these_sources() -> None:
    """The same sum as in web/vite.config.js, so that no Node is needed to see that somebody forgot `make web`."""
    built = json.loads((STATIC / "built.json").read_text())
    names = sorted((path.relative_to(ROOT).as_posix(), path) for path in sources())
    lines = "".join(f"{name} {digest(path)}\n" for name, path in names)
    assert hashlib.sha256(lines.encode()).hexdigest() == built["sources"], "make web"
    found = {
        path.relative_to(STATIC).as_posix(): digest(path) for path in STATIC.rglob("*") if path.is_file()
    }
    found.pop("built.json")
    assert found == built["files"], "make web"


def test_the_lock_pins_everything_and_names_no_registry() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
    assert [name for name, package in packages.items() if name and not package.get("integrity")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
    wanted = json.loads((WEB / "package.json").read_text())
    versions = [*wanted["dependencies"].values(), *wanted["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)


def test_sources_are_of_a_size_to_feel_at_home_in() -> None:
    lengths = {
        path.name: len(path.read_text().splitlines()) for path in sources() if path.suffix in (".ts", ".tsx")
    }
    assert {name: length for name, length in lengths.items() if length > 250} == {}


def test_pages_are_served_with_their_kinds_and_kept_by_their_tags(server: Any) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/static/chat.js", "text/javascript"),
        ("/static/chat.css", "text/css"),
        ("/static/fonts/KaTeX_Main-Regular.woff2", "font/woff2"),
    ):
        answer = server.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        again = server.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "//etc/passwd", "fonts", "", "chat.js/x"]
)
def test_nothing_else_is_served(server: Any, path: str) -> None:
    assert server.get(f"/static/{path}").status_code == 404
