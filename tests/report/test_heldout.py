"""Held-out problems before and after: counted, and in order of what was gained."""

import json
from pathlib import Path

import pytest

from farthing.report.gather import gather
from farthing.report.heldout import BUCKETS, bucket, held_out
from farthing.report.reading import RunFiles, read_run


def entries(rates: list[float]) -> list[dict[str, object]]:
    return [{"problem": {"n": n}, "rate": rate} for n, rate in enumerate(rates)]


def run(**problems: list[dict[str, object]]) -> RunFiles:
    recipe = {
        "stages": list(problems),
        **{name: {"kind": "evaluate", "model": name[:-5]} for name in problems},
    }
    kept = {name: {name[:-5]: {"countdown": listed}} for name, listed in problems.items()}
    return RunFiles(Path(), config={"recipe": recipe}, problems=kept)


def test_rates_are_counted_and_rows_ordered_by_gain() -> None:
    found = held_out(run(base_eval=entries([0, 0.5, 1]), final_eval=entries([0.25, 1, 0])))
    assert found["models"] == ["base", "final"]
    assert found["buckets"] == ["never", "up to 25%", "up to 50%", "always"]
    assert found["counts"] == [[1, 0, 1, 1], [1, 1, 0, 1]]
    assert found["rows"] == [
        {"title": "n 1", "rates": [0.5, 1]}, {"title": "n 0", "rates": [0, 0.25]}, {"title": "n 2", "rates": [1, 0]}
    ]  # fmt: skip


def test_the_files_of_a_run_are_read(run_dir: Path) -> None:
    found = gather(run_dir)["held_out"]
    assert found["models"] == ["base", "final"]
    assert [sum(counts) for counts in found["counts"]] == [500, 500]
    file = run_dir / "stages/final_eval/problems.json"
    kept = json.loads(file.read_text(encoding="utf-8"))["final"]["countdown"]
    rates = {row["title"]: row["rates"][1] for row in found["rows"]}
    first = kept[0]["problem"]
    assert (
        rates[f"numbers {' '.join(map(str, first['numbers']))} · target {first['target']}"] == kept[0]["rate"]
    )


@pytest.mark.parametrize(
    ("rate", "name"),
    [(0, "never"), (0.01, "up to 25%"), (0.25, "up to 25%"), (0.26, "up to 50%"), (0.75, "up to 75%"),
     (0.99, "under 100%"), (1, "always")],
)  # fmt: skip
def test_buckets(rate: float, name: str) -> None:
    assert BUCKETS[bucket(rate)] == name


@pytest.mark.parametrize(
    "content", ["[", "{}", "[1, null]", '{"final": {"t": [{"rate": "x"}]}}', '{"final": 3}', "null"]
)
def test_without_readable_files_there_is_nothing(tmp_path: Path, content: str) -> None:
    assert held_out(RunFiles(tmp_path)) == {}
    folder = tmp_path / "stages" / "final_eval"
    folder.mkdir(parents=True)
    (folder / "problems.json").write_text(content, encoding="utf-8")
    (tmp_path / "config.json").write_text('{"recipe": {"stages": ["final_eval"]}}', encoding="utf-8")
    assert held_out(read_run(tmp_path)) == {}
