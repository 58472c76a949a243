"""The table at the end of a run."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from farthing.cli.summary import cost_line, print_summary, rows


def evaluation(rate: float, **more: Any) -> dict[str, Any]:
    return {
        "task": "countdown",
        "n": 500,
        "samples": 4,
        "pass@1": rate,
        "pass@1_interval": [rate - 0.02, rate + 0.02],
        "mean_length": 84.25,
        "truncated": 0.031,
        "unparsable": 0.0,
        **more,
    }


def shown(summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.argv", ["/elsewhere/bin/farthing"])
    page = io.StringIO()
    print_summary(summary, Path("runs/x"), Console(file=page, width=100, highlight=False))
    return page.getvalue()


def test_base_and_trained_stand_side_by_side_with_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = {"evaluations": {"base": evaluation(0.06), "final": evaluation(0.55)}, "wall_s": 587.3}
    page = shown(summary, monkeypatch)
    line = next(line for line in page.splitlines() if "pass@1" in line)
    assert line.index("6.0% [4.0, 8.0]") < line.index("55.0% [53.0, 57.0]")
    assert "base" in page and "trained" in page
    assert "3.1%" in page and "84.2" in page
    assert "time 9:47" in page


def test_measures_come_in_reading_order_and_only_where_there_are_any() -> None:
    measures = {"cons@16": 0.4, "pass@16": 0.7, "pass@4": 0.5}
    found = rows({"base": evaluation(0.1), "final": evaluation(0.2, **measures)})
    assert [key for key, _, _ in found[:4]] == ["pass@1", "pass@4", "pass@16", "cons@16"]


def test_a_measure_that_one_model_lacks_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    page = shown(
        {"evaluations": {"base": evaluation(0.1), "final": evaluation(0.2, **{"pass@16": 0.7})}}, monkeypatch
    )
    line = next(line for line in page.splitlines() if "pass@16" in line)
    assert "-" in line and "70.0%" in line


def test_the_commands_to_type_next_name_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    page = shown({"evaluations": {"final": evaluation(0.5)}}, monkeypatch)
    for verb in ("chat", "report", "eval"):
        assert f"/elsewhere/bin/farthing {verb} runs/x" in page
    assert "--task countdown" in page


def test_the_line_of_cost_tells_what_it_knows() -> None:
    summary = {
        "wall_s": 61,
        "tokens": 12345678,
        "flops": 3.2e14,
        "cost": {"money": 0.0123, "currency": "EUR"},
    }
    assert cost_line(summary) == "time 1:01   tokens 12,345,678   FLOPs 3.20e+14   cost 0.0123 EUR"
    assert cost_line({}) == ""


def test_a_run_without_evaluations_has_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "│" not in shown({"wall_s": 3}, monkeypatch)


def test_several_tasksets_are_one_table_of_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each stage with what it cost and for each taskset with its results, whole in 80 columns."""
    words = evaluation(0.3, language=0.75, language_interval=[0.7, 0.8], thinking_length=21.5)
    summary = {
        "evaluations": {
            "zero": {"sums": evaluation(0.1, **{"cons@16": 0.2}), "words": words},
            "student": {"sums": evaluation(0.4)},
        },
        "cost": {"currency": "USD", "by_stage": {"zero": {"tokens": 2_500_000, "money": 0.0123}}},
    }
    monkeypatch.setattr("sys.argv", ["/elsewhere/bin/farthing"])
    page = io.StringIO()
    print_summary(summary, Path("runs/x"), Console(file=page, width=80, highlight=False))
    lines = [line.split() for line in page.getvalue().splitlines()]
    assert ["stage", "pass@1", "cons@16", "language", "thought", "tokens", "cost"] in lines
    assert ["zero", "2.50M", "0.0123"] in lines
    assert ["sums", "10.0%", "8.0\u201312.0", "20.0%", "-", "-"] in lines
    assert ["words", "30.0%", "28.0\u201332.0", "-", "75.0%", "21.5"] in lines
    assert ["student", "-", "-"] in lines
    assert "\u2026" not in page.getvalue()
