"""Strict configuration: what is refused, in which words; overrides; fingerprints; TOML there and back."""

import tomllib
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from farthing.config import Strict, apply_overrides, fingerprint, load_toml, nearest, parse, to_toml
from farthing.errors import RecipeError, UserError


class Inner(Strict):
    FOREIGN: ClassVar[dict[str, tuple[str, ...]]] = {"breadth": ("width",), "size": ("width", "height")}

    width: int = Field(4, ge=1, description="How wide it is.")


class Outer(Strict):
    rate: float = 0.5
    deep: bool = False
    name: str = "x"
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"rats": 1}, 'here: unknown key "rats"; did you mean "rate"?'),
        ({"inner": {"widht": 1}}, 'here: unknown key "inner.widht"; did you mean "width"?'),
        ({"inner": {"breadth": 1}}, 'here: unknown key "inner.breadth"; here it is width (how wide it is)'),
        ({"inner": {"size": 1}}, 'here: unknown key "inner.size"; here it is width (how wide it is)'),
        ({"breadth": 1}, 'here: unknown key "breadth"; known: deep, inner, name, rate'),
        ({"qqq": 1}, 'here: unknown key "qqq"; known: deep, inner, name, rate'),
        ({"inner": {"width": 0}}, "here: inner.width = 0: should be greater than or equal to 1"),
        ({"rate": "fast"}, 'here: rate = "fast": should be a valid number'),
        ({"rate": True}, "here: rate = true: should be a valid number"),
        ({"rate": float("nan")}, "here: rate = NaN: should be a finite number"),
        ({"inner": {"width": 2.0}}, "here: inner.width = 2.0: should be a valid integer"),
        ({"deep": 1}, "here: deep = 1: should be a valid boolean"),
    ],
)
def test_each_mistake_is_one_line_with_the_remedy(data: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(Outer, data, "here", RecipeError)
    assert str(caught.value) == expected


def test_an_unknown_key_is_named_before_a_wrong_value() -> None:
    with pytest.raises(UserError, match='unknown key "rats"'):
        parse(Outer, {"deep": 3, "rats": 1}, "here")


def test_a_whole_number_is_a_float_and_the_result_cannot_be_changed() -> None:
    outer = parse(Outer, {"rate": 2, "inner": {"width": 7}}, "here")
    assert outer == Outer(rate=2.0, inner=Inner(width=7))
    with pytest.raises(ValueError, match="frozen"):
        outer.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = ", "malformed TOML: Invalid value (at end of document)"),
        (b"a = '\xff'", "not UTF-8 text (byte 5)"),
        (b"[t]\nday = 2020-01-01", 't: day: a date is not a setting; write it as a string: "2020-01-01"'),
    ],
)
def test_an_unreadable_file_is_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_toml(path)
    assert str(caught.value) == f"{path}: {expected}"


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text("a = 1")
    with pytest.raises(UserError) as caught:
        load_toml(tmp_path / "tinny.toml")
    assert str(caught.value) == f"{tmp_path}/tinny.toml: no such file; did you mean {tmp_path}/tiny.toml?"
    with pytest.raises(UserError, match=r"no such file$"):
        load_toml(tmp_path / "nowhere" / "x.toml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load_toml(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("word", "word"),
        ("two words", "two words"),
        ('"quoted"', "quoted"),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        ("/some/path.jsonl", "/some/path.jsonl"),
        ("", ""),
        ("a=b", "a=b"),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_override_values_are_toml_and_bare_words_strings(text: str, value: Any) -> None:
    data = {"a": {"b": 0, "c": 1}}
    assert apply_overrides(data, [f"a.b={text}"]) == {"a": {"b": value, "c": 1}}
    assert data == {"a": {"b": 0, "c": 1}}


def test_overrides_make_tables_and_the_last_one_wins() -> None:
    assert apply_overrides({}, ["a.b.c=1", "a.b.c=2", "a.b.d=x"]) == {"a": {"b": {"c": 2, "d": "x"}}}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps", "--set steps: expected KEY=VALUE, for example --set grpo.steps=200"),
        ("a..b=1", "--set a..b=1: expected KEY=VALUE, for example --set grpo.steps=200"),
        ("a.b.c=1", "--set a.b.c=1: a.b is a value, not a table"),
        ("a.b=[1,", "--set a.b=[1,: malformed value: Invalid value (at end of document)"),
        (
            "a.b=2020-01-01",
            '--set a.b=2020-01-01: a date is not a setting; write it as a string: "2020-01-01"',
        ),
    ],
)
def test_a_malformed_override_says_so(override: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        apply_overrides({"a": {"b": 1}}, [override])
    assert str(caught.value) == expected


def test_nearest_ignores_case_and_gives_up_on_strangers() -> None:
    assert nearest("STPES", ["tokens_per_step", "steps"]) == "steps"
    assert nearest("zzz", ["steps"]) is None


def test_fingerprints_follow_values_and_not_key_order() -> None:
    assert fingerprint({"a": 1, "b": [0.1]}) == fingerprint({"b": [0.1], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    # The form is fixed, because it is compared across versions and machines.
    assert fingerprint({"é": None}) == ("76bf55404d6867843459693fc962f773f4310dce59bd47ea77aa964c1fe76364")


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(keys, values, max_size=5))
def test_toml_reads_back_equal(data: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(data)) == data


def test_toml_leaves_out_none_and_refuses_what_it_has_no_word_for() -> None:
    assert to_toml({"a": None, "b": {"c": None, "d": 1}, "e": [{"f": None}]}) == "e = [{}]\n\n[b]\nd = 1\n"
    assert to_toml({}) == "\n"
    with pytest.raises(TypeError, match="TOML has no set"):
        to_toml({"a": {1}})
