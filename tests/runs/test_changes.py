"""What makes it another run: differences by dotted key, in the order a person reads them."""

from pathlib import Path

import pytest

from farthing.errors import RunError
from farthing.runs.changes import check_same_run, differences, flatten


def test_tables_become_dotted_keys_and_lists_stay_values() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": {}}) == {"a.b.c": 1, "a.d": [1, {"e": 2}]}


def test_differences_cover_changed_new_and_missing_keys() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 5, "e": 6}, "d": 3}
    assert differences(old, new) == [("a.c", 2, 5), ("a.e", None, 6), ("a.b", 1, None)]


def test_tuples_and_lists_are_the_same_setting() -> None:
    assert check_same_run(Path("run"), {"a": [1, 2]}, {"a": (1, 2)}, lambda *_: False) == []


def test_the_message_shortens_long_values_and_says_what_is_missing() -> None:
    with pytest.raises(RunError) as caught:
        check_same_run(Path("run"), {}, {"a": "x" * 100}, lambda *_: False)
    message = str(caught.value)
    assert message.startswith('run belongs to another recipe: a is not set there and "xxx')
    assert message.endswith("...  here; choose another --run-dir".replace("  ", " "))
