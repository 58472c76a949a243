"""Files that survive a crash: torn ends, full disks, atomic replacement."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import RunError
from farthing.runs.files import JsonLines, encode_line, read_json, read_lines, write_atomic, write_json

RECORDS = [{"stage": "a", "step": 1}, {"stage": "a", "step": 2}, {"stage": "b", "step": 1}]


def written(path: Path, records: list[dict[str, Any]] = RECORDS) -> Path:
    path.write_bytes(b"".join(map(encode_line, records)))
    return path


def test_records_come_back_in_order(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "new" / "x.jsonl")
    for record in RECORDS:
        lines.append(record)
    assert read_lines(lines.path) == RECORDS
    lines.close()
    lines.close()


def test_a_missing_file_has_no_records(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("cut", range(1, len(encode_line(RECORDS[2])) + 1))
def test_a_torn_end_is_ignored_and_cut_on_reopening(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "x.jsonl")
    os.truncate(path, path.stat().st_size - cut)
    assert read_lines(path) == RECORDS[:2]
    lines = JsonLines(path)
    lines.append({"stage": "c", "step": 9})
    lines.close()
    assert read_lines(path) == [*RECORDS[:2], {"stage": "c", "step": 9}]


def test_a_last_line_of_rubbish_is_torn_too(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl")
    with path.open("ab") as file:
        file.write(b"\x00\x00\x00\n")  # what a power cut leaves of a page that was never written
    assert read_lines(path) == RECORDS
    JsonLines(path).close()
    assert path.read_bytes() == b"".join(map(encode_line, RECORDS))


def test_damage_in_the_middle_is_not_forgiven(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"step"; 2'))
    with pytest.raises(RunError) as caught:
        read_lines(path)
    assert str(caught.value) == f"{path}: line 2 is not JSON"


def test_truncate_drops_only_that_stage_after_the_step(tmp_path: Path) -> None:
    lines = JsonLines(written(tmp_path / "x.jsonl"))
    assert lines.truncate("a", 1) == 1
    assert lines.truncate("a", 1) == 0
    lines.append({"stage": "a", "step": 2, "again": True})
    assert read_lines(lines.path) == [RECORDS[0], RECORDS[2], {"stage": "a", "step": 2, "again": True}]
    assert lines.truncate("a", None) == 2
    assert read_lines(lines.path) == [RECORDS[2]]
    lines.close()


def test_a_full_disk_leaves_whole_lines_and_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = JsonLines(tmp_path / "x.jsonl")
    lines.append({"n": 1})
    real, calls = os.write, []

    def half_then_full(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half_then_full)
        with pytest.raises(RunError, match=r"x\.jsonl: cannot be written: No space left on device"):
            lines.append({"n": 2})
    lines.append({"n": 3})
    assert read_lines(lines.path) == [{"n": 1}, {"n": 3}]
    lines.close()


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = JsonLines(tmp_path / "x.jsonl")
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
        lines.append({"text": "a long enough record"})
    assert read_lines(lines.path) == [{"text": "a long enough record"}]
    lines.close()


def test_an_atomic_write_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_atomic(path, "old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(RunError, match="cannot be written: No space left on device"):
                write_atomic(path, "new")
        assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]
        assert path.read_text() == "old"


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        JsonLines(tmp_path / "file" / "x.jsonl")


def test_json_files_say_null_for_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [float("nan"), (1.5, float("inf"))], "b": "é"})
    assert json.loads(path.read_text()) == {"a": [None, [1.5, None]], "b": "é"}
    assert read_json(path) == {"a": [None, [1.5, None]], "b": "é"}


def test_a_damaged_or_missing_json_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(RunError, match=r"x\.json: cannot be read: Expecting"):
        read_json(tmp_path / "x.json")
    with pytest.raises(RunError, match=r"y\.json: no such file"):
        read_json(tmp_path / "y.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters()), json_values | st.text(st.characters()), max_size=4))
def test_any_record_is_one_line_and_comes_back(record: dict[str, Any]) -> None:
    line = encode_line(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == record


def test_half_a_surrogate_pair_survives() -> None:
    line = encode_line({"text": "\ud83d", "n": float("inf")})
    assert json.loads(line) == {"text": "\ud83d", "n": None}
