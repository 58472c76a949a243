r"""Numbers as people write them: signs, thousands, decimal points and commas, fractions, percent, money and
units.

Values are exact rationals. The number is looked for in the marked answer (`\boxed{...}`, `#### ...`),
otherwise in the whole text, and there behind the last `=`. Two different numbers are no answer, so that
listing guesses gains nothing; only in prose (`prose=True`) does the last number count, as graders of GSM8K
do. A percent sign, a currency and a unit are passed over: 50%, $50 and 50 km are all 50.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import Literal

from farthing.tasks.verifiers.extract import marked
from farthing.tasks.verifiers.verdict import NO_ANSWER, Verdict

Decimal = Literal["auto", ".", ","]
MAX_CHARS = 20_000
MAX_DIGITS = 40

_VULGAR = re.compile("[¼-¾⅐-⅞]")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]")
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "⁄": "/", "÷": "/", "×": "x", "·": "x", "’": "'", "≈": "=", "＝": "="}
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{(-?\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))")
_LATEX_TIMES = re.compile(r"\\(?:times|cdot)\b")
_LATEX_EQUALS = re.compile(r"\\approx\b")
_LATEX_SPACE = re.compile(r"\\(?:[,;:! ]|quad\b|left\b|right\b|displaystyle\b)")
_LATEX_COMMAND = re.compile(r"\\[a-zA-Z]+")
_CURRENCY = re.compile(r"(?:\b[A-Z]{1,3})?\\?\$|[€£¥₹]")
_NUMBER = re.compile(
    r"(?<![A-Za-z_^\d])(?P<sign>(?<![\d)])[-+]\s?)?"
    r"(?:(?P<whole>\d+)\s(?P<up>\d+)/(?P<down>\d+)(?!\d)"
    r"|(?P<digits>\d{1,3}(?:[ ']\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)*|[.,]\d+)"
    r"(?:\s?/\s?(?P<over>\d+))?"
    r"(?:\s?[xX*]\s?10\s?\^\s?(?P<ten>[-+]?\d{1,2})(?!\d)|[eE](?P<exp>[-+]?\d{1,2})(?!\w))?)"
    r"(?P<unclear>\s?\^|[eE][-+]?\d|\s?[xyzXYZ](?![A-Za-z]))?"
)


def clean(text: str) -> str:
    """The text with Unicode and LaTeX spellings of numbers turned into plain ones, and currencies
    removed."""
    text = _VULGAR.sub(lambda m: " " + m[0], text)
    text = _SUPERSCRIPT.sub(lambda m: "^" + m[0], text)
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = _LATEX_FRACTION.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]} ", text)
    text = _LATEX_EQUALS.sub("=", _LATEX_TIMES.sub("x", text)).replace("{,}", ",").replace("\\%", "%")
    text = _CURRENCY.sub("", _LATEX_SPACE.sub("", text))
    return _LATEX_COMMAND.sub(" ", text).translate({ord(c): None for c in "{}$"})


def read_number(digits: str, decimal: Decimal = "auto") -> Fraction | None:
    """The value of digits with separators, or None when they cannot be a number.

    With `decimal="."` or `","` the other sign separates thousands; where it cannot (not three digits behind
    it) it is read as decimal after all. With "auto": of two different separators the last is decimal; one
    that occurs several times separates thousands; a single comma before exactly three digits separates
    thousands ("1,234"), any other single comma is decimal ("3,5"); a single point is decimal.
    """
    digits = digits.replace(" ", "").replace("'", "")
    point = _decimal_sign(digits, decimal)
    whole, _, fraction = digits.rpartition(point) if point else (digits, "", "")
    separator = {".": ",", ",": "."}.get(point) or ("," if "," in whole else ".")
    groups = whole.split(separator)
    if not (fraction or not point) or (not fraction.isdigit() and fraction):
        return None
    if len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(group) != 3 for group in groups[1:])):
        return None
    plain = "".join(groups)
    if not (plain.isdigit() or (not plain and fraction)) or len(plain + fraction) > MAX_DIGITS:
        return None
    return Fraction(int(plain + fraction), 10 ** len(fraction))


def _decimal_sign(digits: str, decimal: Decimal) -> str:
    """Which sign, if any, is the decimal one in these digits."""
    commas, points = digits.count(","), digits.count(".")
    if commas and points:
        return "," if digits.rindex(",") > digits.rindex(".") else "."
    if commas + points != 1:
        return ""
    sign = "," if commas else "."
    before, _, behind = digits.partition(sign)
    thousands = len(behind) == 3 and 1 <= len(before) <= 3 and not before.startswith("0")
    separates = sign == "," if decimal == "auto" else sign != decimal
    return "" if thousands and separates else sign


def _value(match: re.Match[str], decimal: Decimal) -> Fraction | None:
    if match["unclear"] or max(map(len, re.findall(r"\d+", match[0])), default=0) > MAX_DIGITS:
        return None
    if match["whole"]:
        if int(match["down"]) == 0:
            return None
        value: Fraction | None = int(match["whole"]) + Fraction(int(match["up"]), int(match["down"]))
    else:
        value = read_number(match["digits"], decimal)
        if value is not None and match["over"]:
            value = value / int(match["over"]) if int(match["over"]) else None
        if value is not None and (scale := match["ten"] or match["exp"]):
            value *= Fraction(10) ** int(scale)
    if value is None:
        return None
    return -value if (match["sign"] or "").startswith("-") else value


def find_number(text: str, *, decimal: Decimal = "auto", prose: bool = False) -> Fraction | None:
    """The one number that `text` gives as its answer, or None; see the head of this file for the rules."""
    chosen = marked(text)
    if chosen is None:
        chosen = text
    else:
        prose = False
    if len(chosen) > MAX_CHARS:
        if not prose:
            return None
        chosen = chosen[-MAX_CHARS:]
    chosen = clean(chosen)
    if not prose:
        chosen = chosen.rpartition("=")[2]
    values = [_value(match, decimal) for match in _NUMBER.finditer(chosen)]
    if prose:
        return values[-1] if values else None
    return values[0] if values and len(set(values)) == 1 else None


def verify(
    answer: str | None,
    gold: str,
    *,
    decimal: Decimal = "auto",
    tolerance: float = 0.0,
    prose: bool = False,
) -> Verdict:
    """Whether the number in `answer` is the number in `gold`, within `tolerance` relative to gold (0 =
    exactly).

    The canonical form is the exact value in lowest terms, such as "12" or "7/2".
    """
    expected = find_number(gold, decimal=decimal)
    if expected is None:
        return Verdict(None, error=f"the gold answer {gold[:40]!r} is not one number")
    given = None if answer is None else find_number(answer, decimal=decimal, prose=prose)
    if given is None:
        return NO_ANSWER
    close = abs(given - expected) <= Fraction(tolerance) * abs(expected)
    return Verdict(float(close), str(given))
