"""Arithmetic expressions: a small recursive-descent parser, exact rational values, hard limits, no `eval`.

The text comes from a model in training, so it is hostile by accident: every cost is bounded before it is
paid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import gcd

MAX_CHARS = 200
MAX_DIGITS = 9
MAX_NUMBERS = 32
MAX_DEPTH = 32

_TOKEN = re.compile(r"\s*(?:(\d+)|(.))", re.DOTALL)
_SPELLINGS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "∗": "*", "x": "*", "X": "*", "÷": "/", "∕": "/", "−": "-", "–": "-"}
    | {"[": "(", "]": ")", "{": "(", "}": ")"}
)

Ratio = tuple[int, int]


class ExpressionError(ValueError):
    """The text is not an arithmetic expression, or is larger than the limits above."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What an expression says: its exact value in lowest terms with a positive denominator (None when it
    divides by zero) and the numbers it uses, in the order written."""

    value: Ratio | None
    numbers: tuple[int, ...]

    @property
    def value_text(self) -> str:
        """`24`, `7/2` or `undefined`."""
        if self.value is None:
            return "undefined"
        numerator, denominator = self.value
        return str(numerator) if denominator == 1 else f"{numerator}/{denominator}"


def parse(text: str) -> Expression:
    """Read `text` as sums, differences, products and quotients of whole numbers, with brackets and unary
    minus.

    Left-associative with the usual precedence. Accepted spellings: `* x × ·`, `/ ÷`, `- −`, and square or
    curly brackets. Raises ExpressionError for anything else; costs at most a few hundred steps whatever the
    text.
    """
    if len(text) > MAX_CHARS:
        raise ExpressionError(f"longer than {MAX_CHARS} characters")
    parser = _Parser(_tokens(text.translate(_SPELLINGS)))
    value = parser.sum(0)
    if parser.position != len(parser.tokens):
        raise ExpressionError(f"unexpected {parser.tokens[parser.position]!r}")
    return Expression(_lowest(value), tuple(parser.numbers))


def _tokens(text: str) -> list[str | int]:
    tokens: list[str | int] = []
    for digits, sign in _TOKEN.findall(text.strip()):
        if digits:
            if len(digits) > MAX_DIGITS:
                raise ExpressionError(f"a number of more than {MAX_DIGITS} digits")
            tokens.append(int(digits))
        elif sign in "+-*/()":
            tokens.append(sign)
        else:
            raise ExpressionError(f"{sign!r} is not arithmetic")
    if not tokens:
        raise ExpressionError("empty")
    return tokens


class _Parser:
    """Evaluates while it reads; a value is (numerator, denominator), or None once something was divided by
    zero."""

    def __init__(self, tokens: list[str | int]) -> None:
        self.tokens = tokens
        self.position = 0
        self.numbers: list[int] = []

    def _peek(self) -> str | int | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def sum(self, depth: int) -> Ratio | None:
        left = self.product(depth)
        while (sign := self._peek()) == "+" or sign == "-":
            self.position += 1
            right = self.product(depth)
            if left is not None and right is not None:
                (a, b), (c, d) = left, right
                left = (a * d + c * b, b * d) if sign == "+" else (a * d - c * b, b * d)
            else:
                left = None
        return left

    def product(self, depth: int) -> Ratio | None:
        left = self.factor(depth)
        while (sign := self._peek()) == "*" or sign == "/":
            self.position += 1
            right = self.factor(depth)
            if left is None or right is None or (sign == "/" and right[0] == 0):
                left = None
            elif sign == "*":
                left = (left[0] * right[0], left[1] * right[1])
            else:
                left = (left[0] * right[1], left[1] * right[0])
        return left

    def factor(self, depth: int) -> Ratio | None:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"nested deeper than {MAX_DEPTH}")
        token = self._peek()
        self.position += 1
        if isinstance(token, int):
            self.numbers.append(token)
            if len(self.numbers) > MAX_NUMBERS:
                raise ExpressionError(f"more than {MAX_NUMBERS} numbers")
            return token, 1
        if token == "-":
            value = self.factor(depth + 1)
            return None if value is None else (-value[0], value[1])
        if token == "(":
            value = self.sum(depth + 1)
            if self._peek() != ")":
                raise ExpressionError("a bracket is not closed")
            self.position += 1
            return value
        raise ExpressionError("a number is missing" if token is None else f"unexpected {token!r}")


def _lowest(value: Ratio | None) -> Ratio | None:
    if value is None:
        return None
    numerator, denominator = value
    common = gcd(numerator, denominator)
    if denominator < 0:
        common = -common
    return numerator // common, denominator // common
