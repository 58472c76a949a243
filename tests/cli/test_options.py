"""Settings of a taskset on the command line."""

import pytest

from farthing.cli.options import task_settings
from farthing.errors import UserError


def test_values_are_toml_and_bare_words_are_strings() -> None:
    given = ["count=4", "prompt=full", "share=0.5", "flag=true", "list=[1, 2]", 'text="a = b"']
    expected = {"count": 4, "prompt": "full", "share": 0.5, "flag": True, "list": [1, 2], "text": "a = b"}
    assert task_settings(given) == expected
    assert task_settings(None) == {}


@pytest.mark.parametrize("bad", ["count", "=4", " =4"])
def test_what_is_not_a_setting_is_refused(bad: str) -> None:
    with pytest.raises(UserError, match="--task-set"):
        task_settings([bad])
