"""One file, self-contained and strict, at every moment of a run's life; untrusted text stays text."""

import html.parser
import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from farthing.errors import RunError
from farthing.report import plot
from farthing.report.gather import gather
from farthing.report.page import (
    IN_A_FILE,
    LIVE,
    SCRIPTS,
    STYLES,
    bundle,
    embed,
    render,
    source_hash,
    write_report,
)

Maker = Callable[..., Path]
STATIC = Path(str(files("farthing.report") / "static"))
NASTY = [
    "</script><script>x()</script>",
    "<!--<script>",
    "]]>",
    "\u2028\u2029",
    "\ud83d",
    "\0",
    "&lt;",
    '"\\',
    "é漢🙂",
]


class Elements(html.parser.HTMLParser):
    """Every element with its attributes and, for scripts, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.texts.append("")
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[-1] += data

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attrs, text) for (name, attrs), text in zip(self.found, self.texts, strict=True) if name == tag
        ]


def data_of(page: str) -> Any:
    (text,) = (text for attrs, text in Elements(page).of("script") if attrs.get("type") == "application/json")
    return json.loads(text)


def test_the_page_is_written_into_the_run_by_default(make_run: Maker, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=5, pretrain_steps=3)
    assert write_report(path) == path / "report.html"
    assert write_report(path, tmp_path / "other.html") == tmp_path / "other.html"
    assert (path / "report.html").read_bytes() == (tmp_path / "other.html").read_bytes()


def test_data_goes_in_and_comes_out_the_same(run_dir: Path) -> None:
    document = gather(run_dir)
    assert data_of(render(document)) == json.loads(json.dumps(document))


@pytest.mark.parametrize("text", NASTY)
def test_no_text_can_leave_the_data_block(text: str) -> None:
    document = gather_like(text)
    page = render(document)
    assert data_of(page) == document
    assert len(Elements(page).of("script")) == 2
    block = embed(document)
    assert not re.search(r"[<>&\u2028\u2029\0]|[^\x00-\x7f]", block)


def gather_like(text: str) -> dict[str, Any]:
    return {"name": text, "samples": [{"text": text, text: [text]}]}


def test_numbers_that_json_does_not_know_become_null() -> None:
    assert embed({"a": [float("nan"), float("inf"), 1.5]}) == '{"a":[null,null,1.5]}'


def test_the_page_asks_nothing_of_the_network(run_dir: Path) -> None:
    page = render(gather(run_dir))
    assert not re.search(
        r"https?://|[\"'(]//[a-z]|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|EventSource|import\(", page
    )
    for _, attrs in Elements(page).found:
        assert not set(attrs) & {"src", "href", "srcset", "action", "data", "poster", "background"}


def test_the_policy_names_exactly_the_pages_own_code(run_dir: Path) -> None:
    elements = Elements(render(gather(run_dir)))
    (policy,) = (
        a["content"] for a, _ in elements.of("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    ((_, style),) = elements.of("style")
    _, (_, script) = elements.of("script")
    rules = dict(rule.split(" ", 1) for rule in (policy or "").split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'{source_hash(style)}'"
    assert rules["script-src"] == f"'{source_hash(script)}'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in (policy or "")
    assert not [
        attrs
        for _, attrs in elements.found
        if any(name.startswith("on") or name == "style" for name in attrs)
    ]


def test_scripts_have_no_way_to_turn_text_into_code() -> None:
    banned = (r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|"
              r"createContextualFragment|setTimeout|setInterval|javascript:")  # fmt: skip
    source = bundle((*SCRIPTS, *IN_A_FILE), wrap=True)
    assert not re.search(banned, source)
    # Elements and attributes come from two functions of dom.js; nobody else makes them.
    others = "".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS if name != "dom.js")
    assert "createElement" not in others
    names = set(re.findall(r"setAttribute\(([^,]+),", others))
    assert all(re.fullmatch(r'"aria-[a-z]+"', name) for name in names)


def test_every_static_file_is_used_and_short() -> None:
    assert {path.name for path in STATIC.iterdir()} == {
        *STYLES,
        *SCRIPTS,
        *plot.STYLES,
        *IN_A_FILE,
        *LIVE,
        "live.css",
    }
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in STATIC.iterdir()}
    assert not [name for name, lines in lengths.items() if lines > 400]


def test_empty_and_just_started_runs_have_a_page(tmp_path: Path) -> None:
    assert data_of(write_report(tmp_path).read_text(encoding="utf-8"))["stages"] == []
    (tmp_path / "config.json").write_text(
        '{"recipe": {"name": "young", "stages": ["pretrain"]}}', encoding="utf-8"
    )
    (tmp_path / "status.json").write_text('{"state": "running", "stages": {}}', encoding="utf-8")
    (tmp_path / "ledger.jsonl").write_text('{"attempt": 1, "started": 5.0, "cores": 2}\n', encoding="utf-8")
    document = data_of(write_report(tmp_path).read_text(encoding="utf-8"))
    assert document["name"] == "young"
    assert document["stage_states"] == [{"name": "pretrain", "state": "waiting", "step": None, "steps": None}]


def test_a_run_torn_at_any_byte_has_a_page(make_run: Maker, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=12, pretrain_steps=3)
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        whole = file.read_bytes()
        for end in range(0, len(whole), max(1, len(whole) // 3)):
            file.write_bytes(whole[:end])
            embed(gather(path))
        file.write_bytes(whole)


ODD: list[Any] = [None, [[]], "x", {"a": {"b": []}}, 1e308, -1]


def test_values_of_any_type_anywhere_have_a_page(make_run: Maker, tmp_path: Path) -> None:
    """Every value of every file, one after another, replaced by something nobody meant, each time something else."""
    path = make_run(tmp_path / "run", steps=2, pretrain_steps=1)
    for file in path.glob("stages/*/problems.json"):
        file.write_text('{"base": {"countdown": [{"problem": {"n": 1}, "rate": 0.5}]}}', encoding="utf-8")
    group = json.loads((path / "samples.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    (path / "samples.jsonl").write_text(
        json.dumps(group | {"samples": group["samples"][:1]}) + "\n", encoding="utf-8"
    )
    tried = 0
    for file in sorted(path.rglob("*.json*")):
        original = file.read_text(encoding="utf-8")
        lines = original.splitlines()
        tree = json.loads(lines[-1])
        for place in places(tree):
            broken = replaced(tree, place, ODD[tried % len(ODD)])
            file.write_text("\n".join([*lines[:-1], json.dumps(broken)]) + "\n", encoding="utf-8")
            embed(gather(path))
            tried += 1
        file.write_text(original, encoding="utf-8")
    assert tried > 200


def places(tree: Any) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON tree, the whole included."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [(), *((key, *rest) for key, value in items for rest in places(value))]


def replaced(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of `tree` with `value` at `place`."""
    if not place:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[place[0]] = replaced(tree[place[0]], place[1:], value)
    return copy


def test_no_such_run_and_no_such_place_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match="cannot be written"):
        write_report(tmp_path, tmp_path / "no" / "folder" / "r.html")
