r"""Mathematical equality, decided by the math-verify library in a killable worker process.

`prepare` runs in the calling process: it finds the answer, settles what needs no algebra (whole numbers,
words) and refuses what the parser could not survive. The rest is for `algebra.judge`, which runs in the
worker. Around the library stand the rules that a table of right and wrong answers showed to be needed:
words are compared as words (as products of letters, "no" equals "on"), an equation between two different
numbers is no answer, units that contradict each other and number bases that differ are not equal, and a
gold answer that cannot be parsed is an error, never a verdict.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from farthing.tasks.sandbox import Outcome
from farthing.tasks.verifiers.exact import normalise
from farthing.tasks.verifiers.extract import final
from farthing.tasks.verifiers.verdict import NO_ANSWER, Verdict

TARGET = "farthing.tasks.verifiers.algebra:judge"
MAX_CHARS = 1000
MAX_DEPTH = 40

_WHOLE = re.compile(r"-?\d{1,15}")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '’-]+[^\W\d_]+)*")
_MATH_WORDS = re.compile(r"(?:sin|cos|tan|log|ln|exp|sqrt|pi|infinity|oo|dne)\b", re.IGNORECASE)
_THIN_SPACE = re.compile(r"(?<=\d)\\[,!](?=\d{3})")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
_LOOSE_I = re.compile(r"(?<=\d) +(?=i\b)")
_EXPONENT = re.compile(r"(?<=\d)[eE]([-+]?\d{1,3})(?!\w)")


class Call(NamedTuple):
    """What the worker is asked: the keyword arguments of `algebra.judge`."""

    answer: str
    gold: str


def prepare(answer: str | None, gold: str, *, decimal: str = "auto") -> Verdict | Call:
    """A verdict when no algebra is needed, otherwise the call for the worker.

    `decimal=","` reads a comma between digits as the decimal sign (otherwise "3,5" is a list of two
    numbers).
    """
    if answer is None or not answer.strip():
        return NO_ANSWER
    given, expected = _tidy(final(answer), decimal), _tidy(final(gold), decimal)
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


def conclude(outcome: Outcome) -> Verdict:
    """What the worker came to, as a verdict; a call that failed could not be scored."""
    if outcome.error is not None:
        return Verdict(None, error=outcome.error)
    return Verdict(float(outcome.value["correct"]), outcome.value["answer"])


def _tidy(text: str, decimal: str) -> str:
    text = text.strip().strip("$").strip()
    text = text.removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]").strip()
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    text = _LOOSE_I.sub("", _THIN_SPACE.sub("", text)).replace("\\varnothing", "\\emptyset")
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
