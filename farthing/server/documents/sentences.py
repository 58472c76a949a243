"""An answer in Markdown taken apart into sentences, with the citations and quotations in each. Pure functions.

    answer ─▶ blocks (paragraph, list item, heading, row of a table) ─▶ sentences ─▶ citations [1], quotations "..."

Every place is an offset into the answer, in characters. Code, formulas and links are passed over: a bracket in them is
no citation and a full stop no end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_FENCE = re.compile(r"^[ ]{0,3}(`{3,}|~{3,}).*?(?:^[ ]{0,3}\1[`~]*[ ]*$|\Z)", re.M | re.S)
_UNREAD = re.compile(
    r"`[^`\n]+`|\$\$[^$]+\$\$|\$(?=\S)[^$\n]{1,400}(?<=\S)\$(?!\d)|\\\(.{1,400}?\\\)|\\\[.{1,400}?\\\]"
    r"|\[[^\[\]\n]*\]\([^()\s]*\)|https?://\S+",
    re.S,
)
CITATION = re.compile(r"\[\d{1,3}(?:\s*[,;]\s*\d{1,3})*\](?!\()")
_QUOTATION = re.compile(
    r'(?<!\w)"(?=\S)[^"]{1,600}(?<=\S)"(?!\w)|“[^“”]{1,600}”|„[^„“”]{1,600}[“”]|«[^«»]{1,600}»|「[^「」]{1,600}」|『[^『』]{1,600}』'
)
_BEGINS = re.compile(r"\s*(?:(?:>\s*)*)(?:[-*+•]\s|\d{1,3}[.)]\s|#{1,6}\s|\|)")
_HEADING = re.compile(r"\s*#{1,6}\s")
_DEFINITION = re.compile(r"^[ ]{0,3}\[\d{1,3}\]:.*$", re.M)
_END = re.compile(
    rf"(?:[.!?…]+[\"'”’»)*_]*(?=\s|\[|$)|[。！？]+[」』”）*_]*)((?:\s*{CITATION.pattern})*)(?=(\s*)(\S?))"
)


class Citation(NamedTuple):
    """One number of a marker: `answer[start:stop]` is "[1]", and of "[1, 2]" the digits alone."""

    start: int
    stop: int
    number: int


class Quotation(NamedTuple):
    """`answer[start:stop]` between marks of quotation, without them."""

    start: int
    stop: int


@dataclass
class Sentence:
    """`answer[start:stop]`. `groups`: citations that stand beside each other; `heading`: it claims nothing."""

    start: int
    stop: int
    heading: bool = False
    groups: list[list[Citation]] = field(default_factory=list)
    quotations: list[Quotation] = field(default_factory=list)


def sentences(answer: str) -> list[Sentence]:
    """The sentences of `answer` in order; blocks without words are left out."""
    masked = _FENCE.sub(lambda match: "\n" * len(match[0]), answer)
    masked = _DEFINITION.sub(lambda match: "\n" * len(match[0]), masked)
    masked = _UNREAD.sub(lambda match: "x" * len(match[0]), masked)
    out = []
    for start, stop, heading in _blocks(masked):
        quotations = [(match.start(), match.end()) for match in _QUOTATION.finditer(masked, start, stop)]
        for first, last in _sentences_of(_without(masked, quotations), start, stop):
            sentence = Sentence(first, last, heading, _groups(masked, first, last))
            sentence.quotations = [
                Quotation(begin + 1, end - 1) for begin, end in quotations if first <= begin and end <= last
            ]
            out.append(sentence)
    return out


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """`text` with what is quoted made unreadable, but for a full stop at its end."""
    pieces, at = [], 0
    for start, stop in spans:
        inner = text[start : stop - 1].rstrip(".!?…。！？")
        pieces += [text[at:start], "x" * len(inner)]
        at = start + len(inner)
    return "".join([*pieces, text[at:]])


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """(start, stop, whether it is a heading) of each; a paragraph's lines belong together."""
    start, at = None, 0
    for line in text.splitlines(keepends=True):
        bare, begins = line.strip(" \t>\r\n=-"), _BEGINS.match(line) is not None
        heading = _HEADING.match(line) is not None
        if start is not None and (not bare or begins):
            yield start, at, False
            start = None
        if heading:
            yield at, at + len(line), True
        elif bare and start is None:
            start = at
        at += len(line)
    if start is not None:
        yield start, at, False


def _sentences_of(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    for match in _END.finditer(text, start, stop):
        following, last = match[3], match.end(1)
        lower = following.islower() and match.end(3) <= stop
        if lower and not match[1]:
            continue  # "e.g. this"
        if lower:  # "It rained. [2] says so."
            last = match.start(1)
        yield start, last
        start = last
    if text[start:stop].strip():
        yield start, start + len(text[start:stop].rstrip())


def _groups(text: str, start: int, stop: int) -> list[list[Citation]]:
    groups: list[list[Citation]] = []
    end = None
    for match in CITATION.finditer(text, start, stop):
        numbers = list(re.finditer(r"\d+", match[0]))
        found = [
            Citation(match.start() + one.start(), match.start() + one.end(), int(one[0])) for one in numbers
        ]
        if len(found) == 1:
            found = [Citation(match.start(), match.end(), found[0].number)]
        if end is not None and not text[end : match.start()].strip(" ,;"):
            groups[-1] += found
        else:
            groups.append(found)
        end = match.end()
    return groups
