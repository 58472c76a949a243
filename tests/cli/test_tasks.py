"""`farthing tasks`."""

import json
from pathlib import Path

import pytest

from farthing.cli.main import run_command_line


def test_tasks_are_listed_with_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["tasks", "list"]) == 0
    assert "countdown: count=3, " in capsys.readouterr().out


def test_a_taskset_that_holds_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["tasks", "check", "countdown", "--n", "20", "--task-set", "count=4"]) == 0
    printed = capsys.readouterr().out
    assert "gold answers accepted: 40" in printed
    assert printed.splitlines()[-1] == "ok"


def write_rows(path: Path, *rows: dict[str, str]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f'path="{path}"'


def test_a_row_without_an_answer_is_named_by_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = write_rows(tmp_path / "mine.jsonl", {"question": "1+1?", "answer": "2"}, {"question": "2+2?"})
    assert run_command_line(["tasks", "check", "jsonl", "--task-set", setting]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "mine.jsonl" in error and "2" in error and "answer" in error


def test_a_taskset_that_rejects_its_own_gold_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", {"question": "how many?", "answer": "some words"})
    ask = ["tasks", "check", "jsonl", "--task-set", rows, "--task-set", "verifier=numeric"]
    assert run_command_line(ask) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("farthing: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (["check", "countdwn"], '"countdown"'),
        (["check", "countdown", "--task-set", "coutn=3"], '"count"'),
        (["check", "countdown", "--task-set", "count=three"], "count"),
        (["check", "countdown", "--task-set", "count"], "KEY=VALUE"),
    ],
)
def test_what_is_misspelt_is_named(ask: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["tasks", *ask]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
