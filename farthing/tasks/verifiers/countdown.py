"""The countdown check: an expression that uses each given number exactly once and has the target as its
exact value."""

from __future__ import annotations

from collections.abc import Sequence

from farthing.tasks.verifiers.expressions import Expression, ExpressionError, parse
from farthing.tasks.verifiers.verdict import NO_ANSWER, Verdict


def verify(answer: str | None, numbers: Sequence[int], target: int) -> Verdict:
    """Judge the text of an answer.

    Values are exact rationals. `3*8 = 24` is read as the expression `3*8` if what follows `=` is a plain
    number equal to its value, and as no expression otherwise.
    """
    if answer is None:
        return NO_ANSWER
    try:
        expression = _with_result(answer)
    except ExpressionError:
        return NO_ANSWER
    uses_all = sorted(expression.numbers) == sorted(numbers)
    return Verdict(float(uses_all and expression.value == (target, 1)), canonical(expression, numbers))


def canonical(expression: Expression, numbers: Sequence[int]) -> str:
    """The class of answers this check cannot tell apart.

    That is the value, when every number is used exactly once; otherwise the value and the numbers used. So
    all right answers vote together however they are written, and an answer that breaks the rule never votes
    with one that keeps it. Nothing of the target enters: the form can be computed by someone who does not
    know which answer is right.
    """
    if sorted(expression.numbers) == sorted(numbers):
        return expression.value_text
    return f"{expression.value_text} from {','.join(map(str, sorted(expression.numbers)))}"


def _with_result(text: str) -> Expression:
    left, equals, right = text.partition("=")
    expression = parse(left)
    if not equals:
        return expression
    result = parse(right)
    if len(result.numbers) != 1 or result.value != expression.value:
        raise ExpressionError("the result after '=' is not the value of the expression")
    return expression
