r"""Mathematical equality, decided by the math-verify library in a killable worker process.

`prepare` runs in the calling process: it finds the answer, settles what needs no algebra (whole numbers,
words) and refuses what no honest answer looks like. `judge` runs in the worker and is the only place that
imports sympy. Around the library stand the rules that a table of right and wrong answers showed to be
needed: words are compared as words (as products of letters, "no" equals "on"), an equation between two
different numbers is no answer, units that contradict each other and number bases that differ are not equal,
and a gold answer that cannot be parsed is an error, never a verdict.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from farthing.tasks.verifiers.exact import normalise
from farthing.tasks.verifiers.extract import marked
from farthing.tasks.verifiers.units import same_unit, unit_of, wrap_trailing_words
from farthing.tasks.verifiers.verdict import NO_ANSWER, Verdict

if TYPE_CHECKING:
    import sympy

TARGET = "farthing.tasks.verifiers.math:judge"
MAX_CHARS = 1000
MAX_DEPTH = 40

_WHOLE = re.compile(r"-?\d{1,15}")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '’-]+[^\W\d_]+)*")
_MATH_WORDS = re.compile(r"(?:sin|cos|tan|log|ln|exp|sqrt|pi|infinity|oo|dne)\b", re.IGNORECASE)
_BASE = re.compile(r"\d_\{?(\d+)\}?")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
_EXPONENT = re.compile(r"(?<=\d)[eE]([-+]?\d{1,3})(?!\w)")


class Call(NamedTuple):
    """What the worker is asked: the keyword arguments of `judge`."""

    answer: str
    gold: str


def prepare(answer: str | None, gold: str, *, decimal: str = "auto") -> Verdict | Call:
    """A verdict when no algebra is needed, otherwise the call for the worker.

    `decimal=","` reads a comma between digits as the decimal sign (otherwise "3,5" is a list of two
    numbers).
    """
    if answer is None or not answer.strip():
        return NO_ANSWER
    given, expected = _tidy(marked(answer) or answer, decimal), _tidy(marked(gold) or gold, decimal)
    if not given:
        return NO_ANSWER
    if refusal := _refusal(given):
        return Verdict(None, error=refusal)
    if _WHOLE.fullmatch(given) and _WHOLE.fullmatch(expected):
        return Verdict(float(int(given) == int(expected)), str(int(given)))
    words, gold_words = _as_words(given), _as_words(expected)
    if words is not None or gold_words is not None:
        return Verdict(float(words == gold_words), words or normalise(given))
    return Call(given, expected)


def _tidy(text: str, decimal: str) -> str:
    text = text.strip().strip("$").strip()
    text = text.removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]").strip()
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    if decimal == ",":
        text = _DECIMAL_COMMA.sub(".", text)
    return _EXPONENT.sub(r" \\times 10^{\1}", text)


def _refusal(text: str) -> str | None:
    """Why this text is not even tried: the parser's time grows much faster than its input."""
    if len(text) > MAX_CHARS:
        return f"too large: an answer of {len(text)} characters, more than {MAX_CHARS}"
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return (
        f"too deep: brackets nested {deepest} levels, more than {MAX_DEPTH}" if deepest > MAX_DEPTH else None
    )


def _as_words(text: str) -> str | None:
    """The words of an answer that is words ("even", "\\text{Monday}"), None for anything mathematical.

    Two plain letters are a product of variables unless `\\text` says otherwise, except "no".
    """
    inside = _TEXT.fullmatch(text)
    plain = inside[1].strip() if inside else text
    if not _WORDS.fullmatch(plain) or (_MATH_WORDS.match(plain) and not inside):
        return None
    if len(plain) == 2 and not inside and plain.lower() != "no":
        return None
    return normalise(plain)


def judge(answer: str, gold: str) -> dict[str, Any]:
    """In the worker: {"correct": bool, "answer": canonical form or None}. Raises ValueError for an
    unreadable gold."""
    import logging

    import sympy
    from math_verify import verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # its note that we keep the time ourselves
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
        canonical = (
            f"{value.lhs} = {canonical}"  # the wrong unknown's value must not vote with the right one's
        )
    return {"correct": correct, "answer": canonical}


def _read(text: str) -> Any:
    """The sympy object that math-verify reads in a box with this content; None when it finds none."""
    from math_verify import parse

    boxed = "\\boxed{" + wrap_trailing_words(text) + "}"
    found = parse(boxed, parsing_timeout=None, raise_on_error=True)
    return found[0] if found and not isinstance(found[0], str) else None


def _contradicts_itself(value: Any) -> bool:
    """Whether this is an equation between two different numbers, such as `3 = 5`."""
    import sympy
    from math_verify import verify

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
    import sympy

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
    return str(sympy.expand(value.doit())) if isinstance(value, sympy.Expr) else str(value)


def _canonical_number(value: sympy.Expr) -> str:
    import sympy

    done = value.doit()
    if isinstance(done, sympy.Float):
        digits = f"{float(done):.10g}"
        short = len(digits.strip("-0.").replace(".", "")) <= 6
        return str(Fraction(digits)) if short else str(sympy.N(done, 10))
    if isinstance(done, sympy.Rational):
        return str(done)
    return str(sympy.N(done, 10))
