"""What counts as a word, for finding passages and for holding sentences to them. Pure functions of text.

Scripts that put no spaces between words (Chinese, Japanese, Thai, ..) and Korean, whose particles grow on its words,
are taken in pairs of characters: 東京都 is 東京 and 京都.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Ranges of a character class: scripts whose words are not told apart by spaces."""

_RUN = re.compile(f"[{UNSPACED}]+")
# `\w` knows letters and digits and not the marks that belong to them, in Devanagari for example the vowels.
_MARKS = "".join(chr(code) for code in range(0x300, 0xFFFF) if unicodedata.category(chr(code))[0] == "M")
_WORD = re.compile(f"[{UNSPACED}]+|(?:(?![{UNSPACED}_])[\\w{_MARKS}])+")
_GROUPED = re.compile(r"(?<=\d)[, ](?=\d{3}(?!\d))")
# A soft hyphen at the end of a line divides a word.
_INVISIBLE = re.compile("\u00ad\\s+|[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_FOLDED = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»″〝〞「」『』", '"'),
        **dict.fromkeys("‘’‚‛′`´", "'"),
        **dict.fromkeys("‐‑‒–—―−", "-"),
    }
)
# Marks of emphasis are no part of what was said, in a document as little as in an answer.
_EMPHASIS = re.compile(r"\*+|(?<!\w)_+|_+(?!\w)")


def plain(text: str) -> str:
    """`text` as it is compared: NFKC without case, one form of quotation marks, apostrophes and dashes, no marks of
    emphasis, nothing invisible, white space made one space."""
    text = unicodedata.normalize("NFKC", text).translate(_FOLDED)
    return " ".join(_EMPHASIS.sub("", _INVISIBLE.sub("", text)).casefold().split())


def pairs(run: str) -> list[str]:
    """The pairs of neighbours in a run of characters; of a single one, itself."""
    return [run[n : n + 2] for n in range(len(run) - 1)] or [run]


def words(text: str) -> Iterator[str]:
    """The words of `text` in order, folded as `plain` folds, with digits ungrouped (1,000 is 1000)."""
    for part in _WORD.findall(_GROUPED.sub("", plain(text))):
        yield from pairs(part) if is_unspaced(part) else (part,)


def is_unspaced(word: str) -> bool:
    """Whether a word is of a script that puts no spaces between words."""
    return _RUN.match(word) is not None
