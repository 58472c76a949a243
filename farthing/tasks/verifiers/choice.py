"""Multiple choice: the letter of an option, however it is dressed, or the text of exactly one option."""

from __future__ import annotations

import re
from collections.abc import Sequence

from farthing.tasks.verifiers.exact import normalise
from farthing.tasks.verifiers.extract import marked
from farthing.tasks.verifiers.verdict import NO_ANSWER, Verdict

LETTERS = "ABCDEFGHIJ"
MAX_CHARS = 20_000

_WRAPPER = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
_LONE = re.compile(r"[\s(\[{*_$]*([A-Ja-j])[\s)\]}*_$.:,]*", re.ASCII)
_LED = re.compile(r"[\s(\[*]*([A-J])\s*[).:\]][)\]*]*\s*(\S.*)", re.DOTALL)
_SAID = re.compile(
    r"(?:answer|option|choice|resposta|alternativa|respuesta|opci[oó]n|答案|选项?)"
    r"(?:\s+is|\s+(?:correta\s+)?é|\s+(?:correcta\s+)?es|\s*是|\s*为)?\s*[::]?\s*[\s(\[*（]*([A-J])(?![A-Za-z'’])",
    re.IGNORECASE,
)


def letter_of(text: str, choices: Sequence[str]) -> str | None:
    """The option that `text` names, as a capital letter; None when it names none or more than one.

    Tried in order: the text is a letter ("(B)", "B."); a letter followed by its own option's words ("B)
    Paris"); the words of one option; a sentence like "the answer is B", of which the last counts.
    """
    text = _WRAPPER.sub(r"\1", text).strip()
    if len(text) > MAX_CHARS:
        text = text[-MAX_CHARS:]
    known = LETTERS[: len(choices)] if choices else LETTERS
    by_words = {normalise(option): LETTERS[i] for i, option in enumerate(choices)}
    if lone := _LONE.fullmatch(text):
        return _known(lone[1], known)
    if words := by_words.get(normalise(text)):
        return words
    if (led := _LED.fullmatch(text)) and (not choices or by_words.get(normalise(led[2])) == led[1]):
        return _known(led[1], known)
    said = _SAID.findall(text)
    return _known(said[-1], known) if said else None


def _known(letter: str, known: str) -> str | None:
    return letter.upper() if letter.upper() in known else None


def verify(answer: str | None, gold: str, *, choices: Sequence[str] = ()) -> Verdict:
    """Whether `answer` names the option `gold` (a letter, or the option's text). Canonical form: the
    letter."""
    expected = letter_of(gold, choices)
    if expected is None:
        return Verdict(None, error=f"the gold answer {gold[:40]!r} is none of the options")
    if answer is None:
        return NO_ANSWER
    found = marked(answer)
    given = letter_of(answer if found is None else found, choices)
    return NO_ANSWER if given is None else Verdict(float(given == expected), given)
