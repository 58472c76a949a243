"""The page in a real browser: it draws what was logged, obeys keys, and executes nothing that a model wrote."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farthing.report.gather import gather
from farthing.report.groups import steps_with
from farthing.report.page import render, write_report
from farthing.report.picture import write_picture
from farthing.report.plot import write_plot
from farthing.report.reading import read_run
from tests.chromium import Opened, launched, needs_chromium

pytestmark = needs_chromium
Maker = Callable[..., Path]


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    with launched() as running:
        yield running.new_context(viewport={"width": 1400, "height": 900})


@pytest.fixture
def visit(context: Any) -> Iterator[Callable[[Path], Opened]]:
    pages = []

    def go(file: Path) -> Opened:
        opened = Opened(context.new_page())
        pages.append(opened.page)
        opened.page.goto(file.as_uri())
        opened.page.wait_for_selector("h1")
        return opened

    yield go
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def report(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run_dir, tmp_path_factory.mktemp("page") / "report.html")


def test_it_draws_without_complaint_and_asks_for_nothing(visit: Any, report: Path) -> None:
    opened = visit(report)
    opened.page.wait_for_selector("#chart-grpo-pass .plot svg")
    assert opened.complaints == []
    assert opened.requests == [report.as_uri()]
    assert opened.text("h1") == "fixture"
    assert re.sub(r"\s+", " ", opened.text(".claim")).startswith("6.5% → 56.3% held-out pass@1")
    headings = opened.page.locator("h2").all_inner_texts()
    assert headings == ["Reinforcement learning", "Pretraining", "Samples", "Evaluation", "Problems", "Cost",
                        "Recipe and provenance"]  # fmt: skip


def test_the_drawn_points_are_the_logged_ones(visit: Any, report: Path, run_dir: Path) -> None:
    """Read the circles of the held-out curve back through the axis' own ticks."""
    opened = visit(report)
    drawn = opened.page.evaluate("""() => {
        const chart = document.querySelector("#chart-grpo-pass");
        const number = (node, name) => Number(node.getAttribute(name));
        return {
            dots: [...chart.querySelectorAll(".series.a .dot")].map((dot) => [number(dot, "cx"), number(dot, "cy")]),
            rows: [...chart.querySelectorAll(".grid")].map((row) =>
                [parseFloat(row.textContent) / 100, number(row.querySelector("line"), "y1")]),
            columns: [...chart.querySelectorAll(".axis text:not(.name)")].map((mark) =>
                [Number(mark.textContent), number(mark, "x")]),
        };
    }""")
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [
        record for record in map(json.loads, lines) if "eval/pass@1" in record and record["stage"] == "grpo"
    ]
    assert len(drawn["dots"]) == len(records) == 12
    for (cx, cy), record in zip(drawn["dots"], records, strict=True):
        assert abs(through(cx, drawn["columns"]) - record["step"]) < 0.05
        assert abs(through(cy, drawn["rows"]) - record["eval/pass@1"]) < 0.001


def through(pixel: float, marks: list[list[float]]) -> float:
    """The value at a pixel, by the first and the last tick."""
    (low, start), (high, end) = marks[0], marks[-1]
    return low + (pixel - start) / (end - start) * (high - low)


def test_pointing_at_a_chart_shows_the_values_of_that_step_everywhere(visit: Any, report: Path) -> None:
    opened = visit(report)
    plot = opened.page.locator("#chart-grpo-entropy .plot")
    plot.scroll_into_view_if_needed()
    opened.page.wait_for_selector("#chart-grpo-entropy svg")
    box = plot.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    step = int(re.match(r"step (\d+)", opened.text("#chart-grpo-entropy .when"))[1])
    assert 100 < step < 140
    series = {one["key"]: dict(one["points"]) for stage in document(report)["stages"] for panel in stage["panels"]
              for one in panel["series"]}  # fmt: skip
    assert float(opened.text("#chart-grpo-entropy .value")) == pytest.approx(
        series["entropy"][step], rel=0.01
    )
    assert float(opened.text("#chart-grpo-reward .value")) == pytest.approx(series["reward"][step], rel=0.01)
    opened.page.mouse.move(5, 5)
    assert opened.text("#chart-grpo-entropy .when") == ""


def document(report: Path) -> Any:
    match = re.search(r'id="document">(.*?)</script>', report.read_text(encoding="utf-8"))
    return json.loads(match[1]) if match else None


def test_a_chart_is_read_with_the_keyboard_and_leads_to_its_samples(visit: Any, report: Path) -> None:
    opened = visit(report)
    plot = opened.page.locator("#chart-grpo-reward .plot")
    plot.focus()
    opened.page.keyboard.press("Home")
    assert plot.get_attribute("aria-valuenow") == "1"
    for _ in range(5):
        opened.page.keyboard.press("ArrowRight")
    assert plot.get_attribute("aria-valuetext").startswith("step 6 · ")
    opened.page.keyboard.press("Enter")
    assert opened.text("#samples .where") == "step 6"
    assert opened.page.evaluate("document.activeElement.getAttribute('role')") == "listbox"


def test_the_axis_can_be_time_or_tokens(visit: Any, report: Path) -> None:
    opened = visit(report)
    for button, name in (("minutes", "minutes"), ("tokens", "tokens"), ("steps", "step")):
        opened.page.get_by_role("button", name=button).click()
        for chart in ("#chart-grpo-pass", "#chart-pretrain-loss"):
            assert opened.page.locator(f"{chart} .axis .name").text_content() == name


def test_samples_are_browsed_with_the_keyboard(visit: Any, report: Path) -> None:
    opened = visit(report)
    press = opened.page.keyboard.press
    opened.page.locator("#samples .list").focus()
    assert opened.text("#samples .where") == "step 240"
    press("h")
    assert opened.text("#samples .where") == "step 234"
    press("j")
    assert opened.text(".sample header .small") == "sample 2 of 8"
    press("ArrowDown")
    assert opened.text(".sample header .small") == "sample 3 of 8"
    press("]")
    assert opened.page.locator(".groups [aria-pressed=true]").inner_text().startswith("group 2")
    assert opened.page.locator(".sample details.thinking").get_attribute("open") is not None
    press("t")
    assert opened.page.locator(".sample details.thinking").get_attribute("open") is None


def test_filters_show_only_their_kind_and_skip_steps_without_it(visit: Any, report: Path) -> None:
    opened = visit(report)
    for word in ("right", "wrong", "truncated", "unparsable"):
        opened.page.locator(".filters").get_by_role("button", name=word).click()
        marks = opened.page.locator("#samples .list .verdict")
        empty = opened.page.locator(".sample .empty button")
        if marks.count() == 0:
            empty.click()
        assert marks.count() > 0
        assert {mark.get_attribute("class") for mark in marks.all()} == {f"verdict {word}"}
        assert word in opened.text(".sample h3")


def test_samples_are_chosen_by_flag_and_say_what_it_means(visit: Any, report: Path) -> None:
    opened = visit(report)
    opened.page.locator(".filters").get_by_role("button", name="repeating thought").click()
    empty = opened.page.locator(".sample .empty button")
    if empty.count():
        assert "flagged: repeating thought" in opened.text(".sample .empty")
        empty.click()
    rows = opened.page.locator("#samples .list li")
    assert rows.count() > 0
    assert all(row.locator("[aria-label*='repeating thought']").count() == 1 for row in rows.all())
    assert {mark.get_attribute("class") for mark in opened.page.locator(".list .verdict").all()} == {
        "verdict right"
    }
    assert "goes in circles" in opened.text(".sample .flags")


def test_a_text_is_found_and_steps_without_it_are_skipped(visit: Any, report: Path, run_dir: Path) -> None:
    groups = read_run(run_dir).groups
    wanted = groups[-2]["prompt"].splitlines()[0].upper()
    places = steps_with(groups, wanted)
    assert 1 <= len(places) < 41
    opened = visit(report)
    page = opened.page
    page.get_by_label("find in samples").fill(wanted)
    page.keyboard.press("Enter")
    page.wait_for_selector(f".found:text('in {len(places)} of 41 steps')")
    visited = [opened.text(".steps .where")]
    while page.get_by_label("previous step").is_enabled():
        page.get_by_label("previous step").click()
        visited.append(opened.text(".steps .where"))
    assert visited == [f"step {step}" for _, step in reversed(places)]
    page.get_by_label("find in samples").fill("jk")
    assert opened.text(".steps .where") == visited[-1], "letters in the field are no commands"


def test_it_fits_a_phone_and_prints(visit: Any, report: Path) -> None:
    opened = visit(report)
    opened.page.set_viewport_size({"width": 390, "height": 844})
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.page.locator("nav").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(visit: Any, report: Path, scheme: str) -> None:
    """Contrast of every kind of text at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    opened = visit(report)
    opened.page.emulate_media(color_scheme=scheme)
    colours = opened.page.evaluate("""() => {
        const style = getComputedStyle(document.documentElement);
        return Object.fromEntries(["paper", "raised", "tint", "ink", "soft", "a", "b", "c", "d", "bad"].map((name) =>
            [name, style.getPropertyValue("--" + name).trim()]));
    }""")
    for ground in ("paper", "raised", "tint"):
        for word in ("ink", "soft", "a", "b", "c", "d", "bad"):
            assert contrast(colours[ground], colours[word]) >= 4.5, (scheme, ground, word)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


ATTACKS = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 1</script>",
    "<!--<script>window.pwned = 1//",
    "<img src=x onerror=window.pwned=1>",
    "<svg onload=window.pwned=1>",
    "<svg><animate onbegin=window.pwned=1 attributeName=x dur=1s>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<details open ontoggle=window.pwned=1>",
    "<math><mtext></table><mglyph><style><img src=x onerror=window.pwned=1>",
    "<base href=//evil.example/><link rel=stylesheet href=//evil.example/a.css>",
    "<meta http-equiv=refresh content='0;url=javascript:window.pwned=1'>",
    "javascript:window.pwned=1",
    "\"onmouseover=window.pwned=1 autofocus onfocus=window.pwned=1 x=\"",
    "'><style>*{display:none}</style>",
    "${window.pwned=1}`{{constructor.constructor('window.pwned=1')()}}",
    "\u2028window.pwned=1\u2029\ud800\u202e",
    "__proto__",
    "constructor",
)  # fmt: skip


ALL = " ".join(ATTACKS)


def poisoned_records(attack: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A metric, a group of samples and a phase in which every string, keys included, is the attack."""
    metric = {"stage": attack, "step": 1, "time": 1.0, "reward": 0.5, attack: 1.0, f"rewards/{attack}": 0.5,
              "nonfinite": [attack], "eval/pass@1": 0.5}  # fmt: skip
    sample = {"text": f"<think>{attack}</think>{attack}<answer>{attack}</answer>", "reward": 1.0, "advantage": 0.0,
              "correct": None, "parts": {attack: 1.0}, "answer": attack, "error": attack, "finish_reason": attack,
              "tokens": 3}  # fmt: skip
    group = {"stage": attack, "step": 1, "problem": {attack: attack}, "prompt": attack,
             "samples": [sample, {**sample, "correct": 1.0}]}  # fmt: skip
    phase = {"attempt": 1, "stage": attack, "kind": "train", "step": 1, "start_s": 0.0, "wall_s": 2.0}
    return metric, group, phase


def poison(path: Path) -> None:
    """A run whose every file is full of attacks."""
    rated = {"task": ALL, "pass@1": 0.5, "pass@1_interval": [0.4, 0.6], "n": ALL, "mean_length": ALL}
    recipe = {"name": ALL, "seed": ALL, "stages": [*ATTACKS, ALL], "task": {"name": ALL},
              **{attack: {"kind": attack} for attack in ATTACKS}, "model": {"model_type": ALL, "path": ALL},
              "cost": {"price_per_core_hour": 1.0, "currency": ALL}}  # fmt: skip
    documents = {
        "config.json": {"fingerprint": ALL, "version": ALL, "created": ALL, "recipe": recipe},
        "status.json": {"state": "failed", "stage": ALL, "message": ALL, "stages": {ALL: {"state": ALL}}},
        "summary.json": {"evaluations": {**dict.fromkeys([*ATTACKS, "base", "final"], rated)}, "control": rated,
                         "hardware": {ALL: ALL}, "comparisons": [{"a": ALL, "b": ALL, "task": ALL}]},
    }  # fmt: skip
    for name, content in documents.items():
        (path / name).write_text(json.dumps(content), encoding="utf-8")
    records = [poisoned_records(attack) for attack in ATTACKS]
    for name, column in zip(("metrics", "samples", "ledger"), zip(*records, strict=True), strict=True):
        text = "".join(json.dumps(line) + "\n" for line in column)
        (path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (path / "recipe.toml").write_text(ALL.encode("utf-8", "replace").decode(), encoding="utf-8")


@pytest.mark.parametrize("guard", ["policy", "care"])
def test_what_a_model_wrote_is_never_executed(visit: Any, tmp_path: Path, guard: str) -> None:
    """With the content security policy and, to try the page's own care, without it."""
    poison(tmp_path)
    page = render(gather(tmp_path))
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n', "", page)
    assert bare != page
    file = tmp_path / "page.html"
    file.write_text(page if guard == "policy" else bare, encoding="utf-8")
    opened = visit(file)
    opened.page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    opened.page.locator("#samples .list").focus()
    seen = set()
    for _ in ATTACKS:
        seen.add(opened.page.evaluate("document.querySelector('.sample').textContent"))
        opened.page.keyboard.press("h")
    assert len(seen) == len(ATTACKS)
    assert opened.complaints == []
    assert opened.requests == [file.as_uri()]
    assert opened.page.evaluate("[window.pwned, ({}).polluted]") == [None, None]
    strange = (
        "img, iframe, object, embed, link, base, form, math, audio, video, animate, mglyph, foreignObject"
    )
    assert opened.page.locator(strange).count() == 0
    assert [opened.page.locator(tag).count() for tag in ("script", "style")] == [2, 1]
    handlers = "[...document.querySelectorAll('*')].flatMap((n) => n.getAttributeNames()).filter((a) => /^on/i.test(a))"
    assert opened.page.evaluate(handlers) == []
    everything = opened.page.evaluate("document.getElementById('report').textContent") + "".join(seen)
    for attack in ATTACKS:
        assert attack.split("\ud800")[0] in everything, attack


def test_the_corpus_would_be_noticed(visit: Any, tmp_path: Path) -> None:
    """The same attacks as markup do execute: the test above is able to fail."""
    file = tmp_path / "page.html"
    file.write_text(f"<h1>careless</h1>{ATTACKS[3]}", encoding="utf-8")
    opened = visit(file)
    opened.page.wait_for_function("window.pwned === 1")


@pytest.mark.parametrize("state", ["empty", "young", "torn", "long"])
def test_every_state_of_a_run_draws_without_complaint(
    visit: Any, make_run: Maker, tmp_path: Path, state: str
) -> None:
    path = tmp_path / "run"
    if state == "empty":
        path.mkdir()
    elif state == "young":
        make_run(path, steps=0, pretrain_steps=1)
        (path / "summary.json").unlink()
    elif state == "torn":
        make_run(path, steps=30, pretrain_steps=5)
        for file in path.iterdir():
            if file.is_file():
                file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    else:
        make_run(path, steps=1, pretrain_steps=1)
        lines = "".join(json.dumps({"stage": "grpo", "step": n, "time": float(n), "reward": None if n == 9 else n % 7,
                                    "num_tokens": n}) + "\n" for n in range(130_000))  # fmt: skip
        (path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    opened = visit(write_report(path))
    opened.page.wait_for_timeout(100)
    assert opened.complaints == []
    assert opened.text("h1")


def test_pictures_are_taken_of_plot_and_page(run_dir: Path, report: Path, tmp_path: Path) -> None:
    plot = write_plot(run_dir, tmp_path / "plot.svg")
    for source, size in ((plot, (880, 420)), (report, (600, 500))):
        image = write_picture(source, tmp_path / "picture.png", width=size[0], height=size[1]).read_bytes()
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        assert (int.from_bytes(image[16:20]), int.from_bytes(image[20:24])) == size
