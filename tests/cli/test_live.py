"""The live view: a panel on a terminal, plain lines elsewhere, and never the end of a run."""

import io
import logging
import os
from pathlib import Path

import pytest
from rich.console import Console

from farthing.cli.live import LivePanel, PlainLines, live_view, panel
from farthing.cli.progress import Progress
from farthing.runs.metrics import MetricsLog, StageSink, read


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(step: int, **values: float) -> dict[str, object]:
    return {"stage": "grpo", "step": step, "time": 100.0 + step, **values}


ABOUT = {"stage": "grpo", "kind": "grpo", "steps": 50, "step": 0}


def test_plain_lines_come_every_few_seconds_and_at_evaluations() -> None:
    now, stream = [0.0], io.StringIO()
    sink = PlainLines(stream, clock=lambda: now[0])
    sink.begin(ABOUT)
    for step in range(1, 51):
        now[0] += 1.0
        sink.write(record(step, reward=step / 100, **({"eval/pass@1": 0.5} if step == 8 else {})))
    sink.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "grpo: 50 steps"
    steps = [int(line.split()[1].split("/")[0]) for line in lines[1:]]
    assert steps == [1, 6, 8, 13, 18, 23, 28, 33, 38, 43, 48, 50]
    assert lines[3].startswith("grpo 8/50  reward 0.080  held-out pass@1 50.0%  0:42 left")


def test_a_resumed_stage_says_where_it_goes_on() -> None:
    stream = io.StringIO()
    sink = PlainLines(stream)
    sink.begin({**ABOUT, "step": 20})
    sink.begin({"stage": "tokenizer"})
    assert stream.getvalue().splitlines() == ["grpo: 50 steps, going on after step 20", "tokenizer"]


def test_what_is_not_finite_is_told_at_once() -> None:
    stream = io.StringIO()
    sink = PlainLines(stream, clock=lambda: 0.0)
    sink.write(record(1, reward=1.0))
    sink.write(record(2, reward=1.0))
    sink.write({**record(3), "reward": None, "nonfinite": ["reward"]})
    assert [line.split("  ")[:2] for line in stream.getvalue().splitlines()] == [
        ["grpo 1", "reward 1.000"],
        ["grpo 3", "reward not finite"],
    ]


def test_off_a_terminal_live_view_gives_plain_lines() -> None:
    stream = io.StringIO()
    with live_view(stream) as sinks:
        assert [type(sink) for sink in sinks] == [PlainLines]
        assert isinstance(sinks[0], StageSink)
        logging.getLogger("farthing.x").warning("the sampler drifts")
        logging.getLogger("farthing.x").info("not for the terminal")
    logging.getLogger("farthing.x").warning("nobody listens any more")
    assert stream.getvalue() == "warning: the sampler drifts\n"


def test_on_a_terminal_the_panel_is_drawn_and_left_standing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    with live_view(stream) as sinks:
        (sink,) = sinks
        assert isinstance(sink, LivePanel)
        sink.begin(ABOUT)  # type: ignore[unreachable]
        sink.write(record(50, reward=0.75))
    text = stream.getvalue()
    assert "50/50" in text
    assert "0.750" in text
    assert text.rstrip().endswith("\x1b[?25h"), "the cursor is shown again"


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with live_view(Terminal()) as sinks:
        assert [type(sink) for sink in sinks] == [PlainLines]


def test_the_panel_is_redrawn_at_most_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    sink = LivePanel(Console(file=io.StringIO(), force_terminal=True), clock=lambda: now[0])
    drawn: list[int] = []
    monkeypatch.setattr(sink, "_draw", lambda: drawn.append(sink._progress.step))
    sink._drawn_at = 0.0
    for step in range(1, 11):
        now[0] += 0.2
        sink.write(record(step))
    assert drawn == [3, 4, 5, 6, 7, 8, 9, 10]
    drawn.clear()
    sink._drawn_at = now[0]
    sink.write(record(11))
    assert drawn == []


def test_the_picture_shows_stages_figures_curve_and_cost() -> None:
    progress = Progress()
    progress.begin({"stage": "pretrain", "steps": 2, "currency": "EUR", "time": 57.0})
    progress.update({"stage": "pretrain", "step": 2, "time": 60.0})
    progress.begin(ABOUT)
    for step in (1, 2, 3):
        progress.update(record(step, reward=step / 10, **{"cost/money": 0.0123, "cost/wall_s": 75.0}))
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(panel(progress, 80))
    text = console.export_text()
    for part in (
        "done: pretrain 0:03",
        "grpo",
        "3/50",
        "0:47 left",
        "reward 0.300",
        "▁▅█",
        "so far EUR 0.0123 in 1:15",
    ):
        assert part in text, part
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("fancy", [False, True])
def test_a_reader_that_leaves_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fancy: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(stream, "isatty", lambda: fancy, raising=False)
        with live_view(stream) as sinks:
            log = MetricsLog(tmp_path / "metrics.jsonl", sinks)
            log.begin("grpo", kind="grpo", steps=2)
            log.log("grpo", 1, {"reward": 1.0})
            logging.getLogger("farthing.x").warning("nobody reads this")
            log.log("grpo", 2, {"reward": 1.0})
            log.close()
        print("nor this", file=stream)
    assert len(read(tmp_path / "metrics.jsonl")) == 2


def test_a_terminal_that_goes_away_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with live_view(stream) as sinks:
        log = MetricsLog(tmp_path / "metrics.jsonl", sinks)
        log.begin("grpo", kind="grpo", steps=9)
        stream.close()
        for step in (1, 2, 9):
            log.log("grpo", step, {"reward": 1.0})
        log.close()
    assert caplog.text.count("is switched off") == 1
