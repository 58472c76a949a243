"""The worker's side of the math verifier: the only file that imports sympy and math-verify."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from typing import Any

import sympy
from math_verify import parse, verify

from farthing.tasks.verifiers.units import same_unit, unit_of, wrap_trailing_words

_BASE = re.compile(r"\d_\{?(\d+)\}?")
_SMALL = 100
_LARGE_EXPONENT = 20
_LARGE_NUMBER = 10**300

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # its note that we keep the time ourselves


def warm() -> None:
    """Make the first call as fast as the later ones: grammars are loaded when they are first used."""
    judge("x^2 + \\frac{1}{2}", "\\frac{1}{2} + x^2")
    judge("[1, 2]", "\\{1, 2\\}")


def judge(answer: str, gold: str) -> dict[str, Any]:
    """{"correct": bool, "answer": canonical form or None}. Raises ValueError for a gold that cannot be
    read.

    May take any amount of time and memory: callers bound both.
    """
    gold_value = _read(gold)
    if gold_value is None:
        raise ValueError(f"the gold answer {gold[:60]!r} cannot be parsed")
    value = _read(answer)
    if value is None:
        return {"correct": False, "answer": None}
    canonical = canonical_form(value)
    if not same_unit(answer, gold):
        return {"correct": False, "answer": f"{canonical} {unit_of(answer)}"}
    if not _same_base(answer, gold):
        return {"correct": False, "answer": f"{canonical} base {_BASE.findall(answer)[-1]}"}
    correct = not _contradicts_itself(value) and bool(
        verify(gold_value, value, timeout_seconds=None, raise_on_error=True)
    )
    if not correct and isinstance(value, sympy.Eq):
        # The value of another unknown must not vote with the value of the right one.
        canonical = f"{value.lhs} = {canonical}"
    return {"correct": correct, "answer": canonical}


def _read(text: str) -> Any:
    """The sympy object that math-verify reads in a box with this content; None when it finds none."""
    boxed = "\\boxed{" + wrap_trailing_words(text) + "}"
    found = parse(boxed, parsing_timeout=None, raise_on_error=True)
    return found[0] if found and not isinstance(found[0], str) else None


def _contradicts_itself(value: Any) -> bool:
    """Whether this is an equation between two different numbers, such as `3 = 5`."""
    if not isinstance(value, sympy.Eq) or value.lhs.free_symbols or value.rhs.free_symbols:
        return False
    return not verify(value.lhs, value.rhs, timeout_seconds=None, raise_on_error=True)


def _same_base(answer: str, gold: str) -> bool:
    """A base written as a subscript must be the gold's; one left out is taken to be what the question asked
    for."""
    given, expected = _BASE.findall(answer), _BASE.findall(gold)
    return not given or given == expected


def canonical_form(value: Any) -> str:
    """A string for voting: rationals exactly, other real constants to 10 digits, sets sorted, the right
    side of `x = ...`, and sympy's own sorted text for the rest after expansion."""
    if isinstance(value, sympy.Eq) and value.lhs.is_Symbol:
        return canonical_form(value.rhs)
    if isinstance(value, sympy.FiniteSet):
        parts = sorted(canonical_form(item) for item in value.args)
        return parts[0] if len(parts) == 1 else "{" + ", ".join(parts) + "}"
    if isinstance(value, sympy.Tuple):
        return "(" + ", ".join(canonical_form(item) for item in value) + ")"
    if isinstance(value, sympy.Interval):
        left, right = "(" if value.left_open else "[", ")" if value.right_open else "]"
        return f"{left}{canonical_form(value.start)}, {canonical_form(value.end)}{right}"
    if isinstance(value, sympy.Union):
        return " U ".join(sorted(canonical_form(item) for item in value.args))
    if isinstance(value, sympy.Expr) and value.is_number:
        return _canonical_number(value)
    return str(sympy.expand(value.doit())) if _is_small(value) else str(value)


def _is_small(value: Any) -> bool:
    """Whether expanding is cheap enough to be done for the sake of voting alone."""
    if not isinstance(value, sympy.Expr) or value.has(sympy.Integral, sympy.Sum, sympy.Product):
        return False
    exponents = [abs(power.exp) for power in value.atoms(sympy.Pow) if power.exp.is_number]
    return value.count_ops() <= _SMALL and all(bool(e <= _LARGE_EXPONENT) for e in exponents if e.is_real)


def _canonical_number(value: sympy.Expr) -> str:
    if not _is_small(value):
        return str(sympy.N(value, 10))
    done = value.doit()
    if isinstance(done, sympy.Float):
        digits = f"{float(done):.10g}"
        short = len(digits.strip("-0.").replace(".", "")) <= 6
        return str(Fraction(digits)) if short else str(sympy.N(done, 10))
    if isinstance(done, sympy.Rational) and max(abs(done.p), done.q) < _LARGE_NUMBER:
        return str(done)
    return str(sympy.N(done, 10))
