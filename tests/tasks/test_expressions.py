"""The expression parser: its values against Python's own, and its limits."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.tasks.verifiers.expressions import MAX_DEPTH, MAX_DIGITS, MAX_NUMBERS, ExpressionError, parse

NUMBERS = st.integers(0, 99).map(str)
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.sampled_from("+-*/"), inner).map("".join),
        inner.map(lambda text: f"(-{text})"),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_values_are_those_of_exact_arithmetic(text: str) -> None:
    try:
        expected = eval(re.sub(r"\d+", lambda m: f"Fraction({m[0]})", text), {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    value = parse(text).value
    assert (None if value is None else Fraction(*value)) == expected
    assert value is None or value[1] > 0


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("9" * MAX_DIGITS, "9" * (MAX_DIGITS + 1)),
        ("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH, "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1)),
        ("-" * MAX_DEPTH + "1", "-" * (MAX_DEPTH + 1) + "1"),
        ("+".join("1" * MAX_NUMBERS), "+".join("1" * (MAX_NUMBERS + 1))),
        ("1" + " " * 199, "1" + " " * 200),
    ],
)
def test_limits(inside: str, outside: str) -> None:
    assert parse(inside).value is not None
    with pytest.raises(ExpressionError):
        parse(outside)


@pytest.mark.parametrize(
    "text", ["", " ", "+", "1+", "(1", "1)", "1 2", "2(3)", "1.5", "1,5", "a", "1//2", "2^3", "²"]
)
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value", "numbers"),
    [
        ("8 − 3 · 2", "2", (8, 3, 2)),
        ("[7/2]", "7/2", (7, 2)),
        ("6÷4", "3/2", (6, 4)),
        ("1/(2-2)", "undefined", (1, 2, 2)),
        ("2x3", "6", (2, 3)),
    ],
)
def test_spellings_and_canonical_values(text: str, value: str, numbers: tuple[int, ...]) -> None:
    expression = parse(text)
    assert (expression.value_text, expression.numbers) == (value, numbers)
