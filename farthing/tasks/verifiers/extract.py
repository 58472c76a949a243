"""Finding the final answer in prose: the last box, what follows `####`, or the text itself.

All scans are linear in the text, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=[{\w])")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_FORMULA = re.compile(r"\$([^$]+)\$")
_LEAD = re.compile(r"(?:[A-Z][^\n$:=\\]*?\b)?(?:[Aa]nswer|[Rr]esult)(?: is|:)[ :]*")
_BRACE = re.compile(r"[{}]|\\.", re.DOTALL)
MAX_BOXES = 64


def boxes(text: str) -> list[str]:
    r"""Contents of the `\boxed{...}` (or `\fbox`) commands that close, outermost ones, in order.

    Of more than 64 boxes only the last 64 are read. `\boxed 7` is the single token 7.
    """
    starts = [match.end() for match in _BOX.finditer(text)][-MAX_BOXES:]
    closes = _closing_braces(text, starts)
    found: list[str] = []
    end = 0
    for start in starts:
        if start < end:
            continue
        if text[start] != "{":
            found.append(text[start])
        elif start in closes:
            end = closes[start]
            found.append(text[start + 1 : end].strip())
    return found


def _closing_braces(text: str, starts: Sequence[int]) -> dict[int, int]:
    """Where the brace that opens at each of `starts` (ascending) closes, for those that do, in one pass."""
    wanted, closes = set(starts), {}
    open_at: list[tuple[int, int]] = []  # (depth before it, position) of the wanted ones
    depth = 0
    for match in _BRACE.finditer(text, starts[0]) if starts else ():
        if match[0] == "{":
            if match.start() in wanted:
                open_at.append((depth, match.start()))
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if open_at and open_at[-1][0] == depth:
                closes[open_at.pop()[1]] = match.start()
    return closes


def marked(text: str) -> str | None:
    """The answer that is marked as such: the last box, otherwise what follows the last `####`.

    Only the last of several counts, so that listing guesses gains nothing. "" when a box was begun and none
    was closed: then there is no answer, whatever else the text holds. None when nothing is marked.
    """
    found = boxes(text)
    if found:
        return found[-1]
    if _BOX.search(text):
        return ""
    hashes = _HASHES.findall(text)
    return hashes[-1].strip() if hashes else None


def final(text: str) -> str:
    """What `text` gives as its final answer: the marked one, otherwise its last line that is not blank,
    without a lead-in such as "So the answer is:" and without the sentence around a last formula in dollar
    signs."""
    found = marked(text)
    if found is not None:
        return found
    lines = text.strip().rsplit("\n", 1)
    line = lines[-1].strip()
    if formulas := _FORMULA.findall(line):
        return str(formulas[-1])
    lead = _LEAD.match(line)
    return line[lead.end() :].strip() if lead else line
