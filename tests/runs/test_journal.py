"""The journal: the same samples get the same scores after a crash, others are scored anew."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from farthing.runs.journal import Journal, digest

SCORES = [{"correct": 1.0, "parts": {"accuracy": 1.0}}, {"correct": None, "error": "timed out"}]


def test_scores_are_replayed_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    mark = digest(["a", "b"])
    journal = Journal(path)
    assert journal.lookup(3, mark) is None
    journal.append(3, mark, SCORES)
    assert journal.lookup(3, mark) == SCORES
    journal.close()
    again = Journal(path)
    assert again.lookup(3, mark) == SCORES
    assert again.lookup(4, mark) is None
    assert again.lookup(3, digest(["b", "a"])) is None
    again.close()


def test_a_torn_line_is_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append(1, "x", SCORES)
    journal.append(2, "y", SCORES)
    journal.close()
    path.write_bytes(path.read_bytes()[:-5])
    again = Journal(path)
    assert again.lookup(1, "x") == SCORES
    assert again.lookup(2, "y") is None
    again.close()


def test_what_a_checkpoint_holds_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for step in (1, 2, 3):
        journal.append(step, "x", SCORES)
    journal.forget(2)
    journal.close()
    again = Journal(tmp_path / "journal.jsonl")
    assert [again.lookup(step, "x") for step in (1, 2, 3)] == [None, None, SCORES]
    again.forget(2)
    again.close()


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=4))
def test_the_digest_follows_every_sample(samples: list[list[int]]) -> None:
    assert digest(samples) == digest([list(sample) for sample in samples])
    assert digest(samples) != digest([*samples, []])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_floats_are_exact(scores: list[float]) -> None:

    with TemporaryDirectory() as folder:
        path = Path(folder) / "j.jsonl"
        journal = Journal(path)
        journal.append(1, "x", scores)
        journal.close()
        again = Journal(path)
        assert again.lookup(1, "x") == scores
        again.close()
