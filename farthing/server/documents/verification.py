"""Whether an answer's citations hold: each is compared with the passage it names. A pure function.

A citation is the number of a passage in brackets. What it stands for is the part of its sentence since the citation
before it (and of the last one also what follows). By the first rule that applies it is

    unknown    there is no passage of that number
    quoted     every quotation of three words or more beside it stands in the passage, word for word
    missing    one of them does not
    bare       nothing beside it could be compared
    worded     every number beside it, and three quarters of its content words, stand in the passage
    missing    they do not, or it denies (not, never, ..) where the passage denies nothing

A sentence of two content words or more without a citation is unsourced; headings and questions are not.

Word for word: after `plain`, which undoes differences of case, white space and typography; "..." stands for what was
left out; no word is cut. Content words: those of three letters or more that are no function words of English, German,
French or Spanish, without their endings in -s, -es, -ed, -ing and -e, and pairs of characters where a script has no
spaces. Words of the passage's title are not counted.

What this cannot see: a sentence that puts the passage's own words together into something else.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from farthing.server.documents.function_words import DENIALS, FUNCTION_WORDS
from farthing.server.documents.sentences import Citation, Quotation, Sentence, sentences
from farthing.server.documents.words import is_unspaced, plain, words

Kind = Literal["quoted", "worded", "bare", "missing", "unknown", "unsourced"]

DOUBTFUL = frozenset({"missing", "unknown"})
"""Citations that do not hold."""
SHARE = 0.75
"""Of the content words beside a citation, how many must stand in the passage."""
LEAST_QUOTED = 3
"""Words that make a quotation; fewer are a name or a word in doubt, and count as words."""
LEAST_CLAIMED = 2
"""Content words that make a sentence that needs a source."""

_ENDING = re.compile(r"(?<=...)s$|(?<=....)(?:ing|ed|es|e)$")
_LEFT_OUT = re.compile(r"\s*(?:\[\.{3}\]|\(\.{3}\)|\.{3,})\s*")
_EDGES = " \t\n.,;:!?'\"()[]。，、！？"
_QUOTE_PREFIX = re.compile(r"\n\s*>+\s?")


class Quotable(Protocol):
    """A passage and the title of its document."""

    @property
    def title(self) -> str: ...

    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Mark:
    """What was found at `answer[start:stop]`; an unsourced sentence is marked at its end.

    `number`: the passage cited; `found_in`: another passage that holds the quotation; `why`: for people.
    """

    start: int
    stop: int
    kind: Kind
    number: int | None = None
    found_in: int | None = None
    why: str = ""

    def record(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def verify(answer: str, passages: Sequence[Quotable]) -> list[Mark]:
    """The marks of `answer` in order; `passages[0]` is what it calls [1]."""
    read = [_Read(passage) for passage in passages]
    marks: list[Mark] = []
    for sentence in sentences(answer):
        if sentence.groups:
            for group, claim in _claims(answer, sentence):
                marks += [_judged(citation, claim, read) for citation in group]
        elif _needs_source(answer, sentence):
            # Inside the last cell of a row: behind its border the mark would be a cell of its own.
            end = sentence.start + len(answer[sentence.start : sentence.stop].rstrip(" \t\n|"))
            marks.append(Mark(end, end, "unsourced", why="this sentence names no source"))
    return marks


@dataclass(frozen=True)
class _Claim:
    """What citations that stand together stand for: its content words, its quotations, whether it denies something."""

    content: list[str]
    quotations: list[str]
    denies: bool


class _Read:
    """A passage as it is compared, worked out when it is first needed."""

    def __init__(self, passage: Quotable) -> None:
        self._passage = passage

    @cached_property
    def text(self) -> str:
        return plain(self._passage.text)

    @cached_property
    def stems(self) -> frozenset[str]:
        return frozenset(map(_stem, words(self._passage.text)))

    @cached_property
    def title(self) -> frozenset[str]:
        return frozenset(map(_stem, words(self._passage.title)))

    @cached_property
    def denies(self) -> bool:
        return denies(self._passage.text)

    def holds(self, quotation: str) -> bool:
        """Whether these words stand here, in this order, with what "..." leaves out between them."""
        at = 0
        parts = [part.strip(_EDGES) for part in _LEFT_OUT.split(plain(quotation))]
        for part in filter(None, parts):
            match = re.compile(f"{_border(part[0], '<')}{re.escape(part)}{_border(part[-1], '')}").search(
                self.text, at
            )
            if match is None:
                return False
            at = match.end()
        return True


def _border(letter: str, side: str) -> str:
    """No word may go on behind the edge of a quotation; where words have no spaces, nobody can tell."""
    return "" if is_unspaced(letter) or not letter.isalnum() else rf"(?{side}!\w)"


def _claims(answer: str, sentence: Sentence) -> list[tuple[list[Citation], _Claim]]:
    """Each group of citations with what it stands for."""
    borders = [sentence.start, *(group[-1].stop for group in sentence.groups[:-1]), sentence.stop]
    if not _content(answer[sentence.start : sentence.groups[0][0].start]) and len(sentence.groups) > 1:
        # "[1] says one thing, [2] another."
        borders = [sentence.start, *(group[0].start for group in sentence.groups[1:]), sentence.stop]
    out = []
    for number, group in enumerate(sentence.groups):
        start, stop = borders[number], borders[number + 1]
        first = bisect_left(sentence.quotations, start, key=lambda one: one.start)
        last = bisect_right(sentence.quotations, stop, key=lambda one: one.stop)
        quoted = sentence.quotations[first:last]
        text = _without_citations(answer, start, stop, group)
        out.append((group, _Claim(_content(text), _long_enough(answer, quoted), denies(text))))
    return out


def _without_citations(answer: str, start: int, stop: int, group: Sequence[Citation]) -> str:
    pieces, at = [], start
    for citation in group:
        pieces.append(answer[at : max(at, citation.start)])
        at = max(at, citation.stop)
    return " ".join([*pieces, answer[at:stop]])


def _long_enough(answer: str, quotations: Sequence[Quotation]) -> list[str]:
    texts = [_QUOTE_PREFIX.sub(" ", answer[one.start : one.stop]) for one in quotations]
    return [text for text in texts if len(list(words(text))) >= LEAST_QUOTED]


def _judged(citation: Citation, claim: _Claim, passages: Sequence[_Read]) -> Mark:
    """By the rules at the top."""

    def mark(kind: Kind, why: str, found_in: int | None = None) -> Mark:
        return Mark(citation.start, citation.stop, kind, number, found_in, why)

    number = citation.number
    if not 1 <= number <= len(passages):
        return mark("unknown", f"there is no passage {number}")
    passage = passages[number - 1]
    for quotation in claim.quotations:
        if not passage.holds(quotation):
            others = (n for n, other in enumerate(passages, 1) if other.holds(quotation))
            found_in = next(others, None)
            instead = "" if found_in is None else f", but in passage {found_in}"
            return mark("missing", f"the quotation is not in passage {number}{instead}", found_in)
    if claim.quotations:
        return mark("quoted", f"the quotation stands in passage {number}, word for word")
    wanted = [word for word in claim.content if word not in passage.title]
    if not wanted:
        return mark("bare", "nothing is said here that could be compared with the passage")
    lacking = [word for word in wanted if word not in passage.stems]
    numbers = [word for word in lacking if word[0].isdigit()]
    share = f"{len(wanted) - len(lacking)} of {len(wanted)} words stand in passage {number}"
    if numbers:
        return mark("missing", f"{numbers[0]} is not in passage {number}")
    if len(lacking) > (1 - SHARE) * len(wanted):
        return mark("missing", f"only {share}")
    if claim.denies and not passage.denies:
        return mark("missing", f"passage {number} denies nothing, and this does")
    return mark("worded", f"not quoted, but {share}")


def denies(text: str) -> bool:
    """Whether a word of denial is in it."""
    return not DENIALS.isdisjoint(words(re.sub(r"n't\b", " not", plain(text))))


def _content(text: str) -> list[str]:
    """The content words of `text` without their endings, each once, in order; numbers count whatever their length."""
    found = (
        word
        for word in words(text)
        if word[0].isdigit() or is_unspaced(word) or (len(word) > 2 and word not in FUNCTION_WORDS)
    )
    return list(dict.fromkeys(_stem(word) for word in found if word not in DENIALS))


def _stem(word: str) -> str:
    return word if word[0].isdigit() else _ENDING.sub("", word)


def _needs_source(answer: str, sentence: Sentence) -> bool:
    text = answer[sentence.start : sentence.stop]
    return (
        not sentence.heading
        and not text.rstrip(' "*_').endswith(("?", "？"))
        and len(_content(text)) >= LEAST_CLAIMED
    )
