r"""Units behind a number: enough to tell `12 cm` from `12 m`, and to keep `1/2 cup` from being read as
algebra."""

from __future__ import annotations

import re

_UNITS = {
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yard yards",
    "mi": "mi mile miles",
    "g": "g gram grams",
    "kg": "kg kilogram kilograms",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "l": "l liter liters litre litres",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "s": "s sec second seconds",
    "min": "min minute minutes",
    "h": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years",
    "cent": "cent cents",
    "dollar": "dollar dollars",
    "euro": "euro euros",
    "deg": "degree degrees",
    "rad": "radian radians",
    "mph": "mph",
    "km/h": "km/h kph",
    "m/s": "m/s",
}
_CANONICAL = {name: unit for unit, names in _UNITS.items() for name in names.split()}
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textrm)\s*\{\s*([^{}]*?)\s*\}")
_TRAILING = re.compile(r"(?<=[\d})])(\s*)([A-Za-z]{2,}(?:[ /][A-Za-z]+)*)$")
_LETTERS = re.compile(r"\d\s*([a-z]{1,3}|km/h|m/s)(?:\s*\^\s*\{?([23])\}?)?$")
_DOLLARS = re.compile(r"\s*-?\s*\\?\$\s*-?\d")
_NOT_UNITS = re.compile(r"(?:sin|cos|tan|log|ln|exp|sqrt|pi|or|and|in|cup|cap|mod)(?![a-z])")
_EXPONENT = re.compile(r"\s*\^\s*\{?\s*([23])\s*\}?")


def wrap_trailing_words(text: str) -> str:
    r"""`1/2 cup` as `1/2 \text{ cup}`: plain words right behind a number are a unit, not letters to
    multiply."""
    match = _TRAILING.search(text)
    if (
        match is None
        or (_NOT_UNITS.match(match[2]) and match[2] != "cup")
        or "\\" in text[match.start() - 1 :]
    ):
        return text
    return f"{text[: match.start()]}\\text{{ {match[2]}}}"


def unit_of(text: str) -> str | None:
    """The one known unit that `text` ends with, in canonical form, or None."""
    if _DOLLARS.match(text):
        return "dollar"
    wrapped = wrap_trailing_words(text)
    found = list(_TEXT.finditer(wrapped))
    if not found:
        letters = _LETTERS.search(text)
        return _join(letters[1], letters[2] or "") if letters else None
    name = found[-1][1].lower().rstrip(".")
    power = _EXPONENT.match(wrapped, found[-1].end())
    for word, exponent in (("square ", "2"), ("cubic ", "3"), ("sq ", "2"), ("cu ", "3")):
        if name.startswith(word):
            return _join(name.removeprefix(word), exponent)
    return _join(name, power[1] if power else "")


def _join(name: str, exponent: str) -> str | None:
    unit = _CANONICAL.get(name)
    return None if unit is None else unit + exponent


def same_unit(answer: str, gold: str) -> bool:
    """False only when both texts end with a known unit and the two differ."""
    given, expected = unit_of(answer), unit_of(gold)
    return given is None or expected is None or given == expected
