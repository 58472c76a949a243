"""Finding the final answer in prose: the last box, what follows `####`, or the text itself.

All scans are linear in the text, whatever it holds.
"""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=[{\w])")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_FORMULA = re.compile(r"\$([^$]+)\$")
_LEAD = re.compile(r"(?:[A-Z][^\n$:=\\]*?\b)?(?:[Aa]nswer|[Rr]esult)(?: is|:)[ :]*")
MAX_BOXES = 64


def boxes(text: str) -> list[str]:
    r"""Contents of the `\boxed{...}` (or `\fbox`) commands that close, outermost ones, in order.

    Of more than 64 boxes only the last 64 are read. `\boxed 7` is the single token 7.
    """
    found: list[str] = []
    end = 0
    for match in list(_BOX.finditer(text))[-MAX_BOXES:]:
        start = match.end()
        if start < end:
            continue
        if text[start] != "{":
            found.append(text[start])
            continue
        close = _closing_brace(text, start)
        if close is not None:
            found.append(text[start + 1 : close].strip())
            end = close
    return found


def _closing_brace(text: str, start: int) -> int | None:
    depth = 0
    escaped = False
    for position in range(start, len(text)):
        character = text[position]
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
    return None


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
