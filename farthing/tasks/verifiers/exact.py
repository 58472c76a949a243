"""Equality of text after normalisation that never changes meaning: Unicode form, white space, outer quotes,
a final full stop, and (unless asked otherwise) upper and lower case."""

from __future__ import annotations

import unicodedata

from farthing.tasks.verifiers.extract import marked
from farthing.tasks.verifiers.verdict import NO_ANSWER, Verdict

MAX_CHARS = 2000
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "「": "」"}


def normalise(text: str, *, case: bool = False) -> str:
    """The canonical form: NFKC, single spaces, no surrounding quotes or final full stop, case folded unless
    `case`."""
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    while len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    if text.endswith((".", "。")) and not text.endswith(".."):
        text = text[:-1].rstrip()
    return text if case else text.casefold()


def verify(answer: str | None, gold: str, *, case: bool = False) -> Verdict:
    """Whether the marked answer, or the whole of the text when none is marked, equals `gold`."""
    if answer is None:
        return NO_ANSWER
    found = marked(answer)
    given = answer if found is None else found
    if len(given) > MAX_CHARS or not given.strip():
        return NO_ANSWER
    canonical = normalise(given, case=case)
    return Verdict(float(canonical == normalise(gold, case=case)), canonical or None)
