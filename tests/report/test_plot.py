"""The README's picture: held-out accuracy over the whole run, with base and control."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from farthing.errors import UserError
from farthing.report import picture
from farthing.report.plot import Frame, learning_curve, phases, round_step, write_plot
from farthing.report.reading import read_run

Maker = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"


def drawn(file: Path) -> ElementTree.Element:
    return ElementTree.fromstring(file.read_text(encoding="utf-8"))


def words(root: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in root.iter(f"{SVG}text")]


def test_it_is_one_static_file_with_base_control_and_result(run_dir: Path, tmp_path: Path) -> None:
    file = write_plot(run_dir, tmp_path / "plot.svg")
    root = drawn(file)
    text = words(root)
    assert text[:2] == ["Held-out pass@1 on countdown", "6.5% to 56.3%, 8.7 minutes on 2 cores, 0.012 EUR"]
    assert {"base 6.5%", "control 11.2%", "56.3%", "pretrain", "grpo", "minutes of wall time"} <= set(text)
    source = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|<script|url\(|@import|href|\bon\w+=", source)
    assert "prefers-color-scheme: dark" in source


def test_the_circles_are_the_evaluations(run_dir: Path, tmp_path: Path) -> None:
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [
        record for record in map(json.loads, lines) if "eval/pass@1" in record and record["stage"] == "grpo"
    ]
    points = learning_curve(read_run(run_dir), "minutes")
    assert [point[1] for point in points] == [record["eval/pass@1"] for record in records]
    assert [point[2] for point in points] == [record["eval/pass@1_low"] for record in records]
    root = drawn(write_plot(run_dir, tmp_path / "plot.svg"))
    circles = [
        (float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter(f"{SVG}circle") if c.get("r") == "3"
    ]
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    frame = Frame(summary["wall_s"] / 60, 0.7)
    assert circles.pop(0) == (frame.x(phases(read_run(run_dir), "minutes")[1][1]), frame.y(0.065))
    assert circles == [(frame.x(x or 0), frame.y(rate or 0)) for x, rate, _, _ in points]


def test_time_begins_with_the_run_and_stages_follow_each_other(run_dir: Path) -> None:
    (first, start, middle), (second, again, end) = phases(read_run(run_dir), "minutes")
    assert (first, start, second) == ("pretrain", 0.0, "grpo")
    assert 0 < middle == again < end


def test_tokens_of_pretraining_are_counted_before_those_of_rl(run_dir: Path, tmp_path: Path) -> None:
    points = learning_curve(read_run(run_dir), "tokens")
    assert points[0][0] == 200 * 10_000 + 20 * 256 * 85
    assert "tokens" in words(drawn(write_plot(run_dir, tmp_path / "plot.svg", axis="tokens")))


def test_a_run_without_evaluations_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no held-out evaluation yet"):
        write_plot(tmp_path, tmp_path / "plot.svg")


def test_one_evaluation_and_strange_names_are_drawn(make_run: Maker, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=20, pretrain_steps=1)
    (path / "summary.json").unlink()
    shutil.rmtree(path / "stages")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config["recipe"]["task"]["name"] = '<script>"&\0\ud800'
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    root = drawn(write_plot(path, tmp_path / "plot.svg"))
    assert words(root)[0] == 'Held-out pass@1 on <script>"&\ufffd\ufffd'


@pytest.mark.parametrize(
    ("rough", "expected"), [(0.9, 1), (1.0, 1), (1.3, 2), (2.2, 5), (5.1, 10), (0.021, 0.05), (130, 200)]
)
def test_steps_of_the_axis_are_round(rough: float, expected: float) -> None:
    assert round_step(rough) == pytest.approx(expected)


def test_without_a_browser_a_picture_is_refused_in_one_line(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "BROWSERS", ("no-such-browser",))
    with pytest.raises(UserError, match="no browser to take a picture with; install one of: no-such-browser"):
        picture.write_picture(run_dir / "config.json", tmp_path / "x.png")
