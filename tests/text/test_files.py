"""The one reader of the JSON files that lie beside weights."""

from pathlib import Path

import pytest

from farthing.errors import CheckpointError
from farthing.text.files import read_json


def test_an_absent_file_means_what_the_reader_says_or_is_named(tmp_path: Path) -> None:
    missing = {"a": 1}
    found = read_json(tmp_path / "farthing.json", missing)
    assert found == missing and found is not missing
    with pytest.raises(
        CheckpointError, match=r"config\.json: no such file; a model directory holds config\.json"
    ):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff", "cannot be read as JSON"),
        (b"[]", "expected a JSON object, found list"),
    ],
)
@pytest.mark.parametrize(("missing", "advice"), [({}, "without the file the model can be used"), (None, "")])
def test_a_damaged_file_is_named(
    tmp_path: Path, content: bytes, says: str, missing: dict[str, int] | None, advice: str
) -> None:
    path = tmp_path / "farthing.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"farthing\.json: {says}.*{advice}"):
        read_json(path, missing)
