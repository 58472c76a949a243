"""Citations held to their passages: what must hold, what must not, and what never happens whatever is written."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.server.documents.sentences import sentences
from farthing.server.documents.verification import verify
from farthing.server.documents.words import plain


@dataclass(frozen=True)
class Passage:
    title: str
    text: str


LEASE = Passage(
    "Lease Agreement",
    "The lease begins on 1 May 2024 and ends on the last day of April 2027.\n"
    "The rent is **1,400 euros** a month. The tenant may keep one cat; it’s “quiet as a mouse”.",
)
TOKYO = Passage("东京", "东京是日本的首都。人口约1400万人。")
COVER = Passage("Warranty", "The warranty covers water damage.")
PASSAGES = [LEASE, TOKYO, COVER]


def kinds(answer: str) -> list[tuple[str, str, int | None]]:
    """(what is marked, as what, which passage) in order."""
    return [(answer[mark.start : mark.stop], mark.kind, mark.number) for mark in verify(answer, PASSAGES)]


@pytest.mark.parametrize(
    "answer",
    [
        'It "begins on 1 May 2024" [1].',
        "It “BEGINS  on\n1 May 2024,” [1].",
        '"The rent is 1,400 euros a month." [1]',
        "„The tenant may keep one cat“ [1].",
        "«ends on the last day of April» [1].",
        "\"it's 'quiet as a mouse'\" [1]".replace("'quiet as a mouse'", "“quiet as a mouse”")
        .replace("“", "")
        .replace("”", ""),
        'From "begins on 1 May 2024 ... the last day of April" [1].',
        'From "begins on 1 May 2024 […] the last day of April" [1].',
        "「东京是日本的首都」[2]。",
        '[1] says that it "begins on 1 May 2024".',
        'It "begins on 1 May 2024" and "ends on the last day" [1].',
    ],
)
def test_a_quotation_that_stands_in_the_passage_is_quoted(answer: str) -> None:
    passages = [
        Passage(LEASE.title, LEASE.text.replace("“quiet as a mouse”", "quiet as a mouse")),
        TOKYO,
        COVER,
    ]
    assert [mark.kind for mark in verify(answer, passages)] == ["quoted"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('It "begins on 2 May 2024" [1].', "the quotation is not in passage 1"),
        ('It "begins on 1 May 2024" [3].', "the quotation is not in passage 3, but in passage 1"),
        ('It "begins on 1 May 2024" and "ends on the first day" [1].', "the quotation is not in passage 1"),
        ('It "he lease begins on 1 May" [1].', "the quotation is not in passage 1"),  # half a word
        ('It "is 1,400 euros a mon" [1].', "the quotation is not in passage 1"),
        (
            'It "ends on the last ... begins on 1 May" [1].',
            "the quotation is not in passage 1",
        ),  # the other way round
        ("「东京是中国的首都」[2]。", "the quotation is not in passage 2"),
        ("The rent is 1,500 euros a month [1].", "1500 is not in passage 1"),
        ("The rent is 400 euros a month [1].", "400 is not in passage 1"),
        ("Dogs and parrots live happily there [1].", "only 0 of 4 words stand in passage 1"),
        ("人口约1500万人[2]。", "1500 is not in passage 2"),
        ("The warranty does not cover water damage [3].", "passage 3 denies nothing, and this does"),
        ("The warranty doesn't cover water damage [3].", "passage 3 denies nothing, and this does"),
    ],
)
def test_what_does_not_stand_in_the_passage_is_missing(answer: str, why: str) -> None:
    assert [(mark.kind, mark.why) for mark in verify(answer, PASSAGES)] == [("missing", why)]


@pytest.mark.parametrize(
    "answer",
    [
        "The rent is 1400 euros a month [1].",
        "**Rent**: 1,400 _euros_ each month [1]",
        "The tenant keeps one cat.[1]",
        "According to [1], the tenant may keep one cat.",
        "According to the Lease Agreement [1], the rent is 1,400 euros.",
        "The warranty covers damages by water [3].",
        "东京是日本的首都[2]。",
        'The "rent" is 1,400 euros [1].',  # too short for a quotation
    ],
)
def test_words_that_stand_in_the_passage_are_worded(answer: str) -> None:
    assert [mark.kind for mark in verify(answer, PASSAGES)] == ["worded"]


def test_each_citation_stands_for_its_own_part_of_the_sentence() -> None:
    answer = "The rent is 1,400 euros [1] and the warranty covers water damage [3]."
    assert kinds(answer) == [("[1]", "worded", 1), ("[3]", "worded", 3)]
    assert [kind for _, kind, _ in kinds(answer.replace("[1]", "[0]"))] == ["unknown", "worded"]
    turned = "[1] says the rent is 1,400 euros, [3] that the warranty covers water damage."
    assert [kind for _, kind, _ in kinds(turned)] == ["worded", "worded"]
    together = 'It "begins on 1 May 2024" [1, 3], [9]'
    assert kinds(together) == [("1", "quoted", 1), ("3", "missing", 3), ("[9]", "unknown", 9)]


def test_a_citation_behind_the_full_stop_belongs_to_the_sentence_before_it() -> None:
    answer = "Dogs live there happily. The rent is 1,400 euros. [1] Parrots shout loudly."
    assert kinds(answer) == [("", "unsourced", None), ("[1]", "worded", 1), ("", "unsourced", None)]
    assert [mark.start for mark in verify(answer, PASSAGES) if mark.kind == "unsourced"] == [24, len(answer)]
    behind = "Dogs live there happily. [1] says the tenant may keep one cat."
    assert [kind for _, kind, _ in kinds(behind)] == ["unsourced", "worded"]


@pytest.mark.parametrize(
    "answer",
    [
        "# Rent of euros and cats",
        "Do dogs live there happily?",
        "Yes. Hm.",
        "```\nrent = paid[1] for cats\n```",
        "[1]: https://cats.example/dogs",
        "|---|---|",
        "",
    ],
)
def test_what_claims_nothing_needs_no_source(answer: str) -> None:
    assert verify(answer, PASSAGES) == []


@pytest.mark.parametrize(
    "answer",
    [
        "`paid[1]`",
        "$x[1]$",
        r"\(x[1]\)",
        "[1](https://cats.example)",
        "https://cats.example/[1]",
        "[1-3]",
        "[2024]",
    ],
)
def test_brackets_in_code_formulas_and_links_are_no_citations(answer: str) -> None:
    assert [mark for mark in verify(f"See {answer}", PASSAGES) if mark.kind != "unsourced"] == []


def test_every_item_of_a_list_is_a_sentence_of_its_own() -> None:
    items = ["It says:\n", "- The rent is 1,400 euros [1]", "- Dogs live happily", "2. One cat [1]"]
    answer = "\n".join([*items, "> The warranty covers water [3]"])
    assert [kind for _, kind, _ in kinds(answer)] == ["worded", "unsourced", "worded", "worded"]
    assert [kind for _, kind, _ in kinds("See [1].")] == ["bare"]
    assert [kind for _, kind, _ in kinds("[1] Lease Agreement")] == ["bare"]


def test_a_mark_neither_breaks_a_table_nor_a_heading() -> None:
    table = "| Item | Price |\n|---|---|\n| dogs live | [1] |"
    assert [table[mark.start - 5 : mark.start] for mark in verify(table, PASSAGES)][:1] == ["Price"]
    heading = "Dogs and parrots\n====\n"
    assert [mark.start for mark in verify(heading, PASSAGES)] == [len("Dogs and parrots")]


PIECES = st.lists(
    st.sampled_from(
        ["The rent is 1,400 euros", "dogs live", '"begins on 1 May 2024"', "[1]", "[2, 3]", "[99]", ". ", "。", "? ",
         "\n", "\n\n", "- ", "# ",
         '"', "“", "「", "`", "```\n", "$", "\\(", "](", "> ", "|", "[", "…", "*", "字", "🙂", " "]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(st.one_of(PIECES, st.text(max_size=80)), st.lists(st.text(max_size=30), max_size=3))
def test_marks_are_in_order_within_the_answer_and_name_what_is_there(answer: str, texts: list[str]) -> None:
    passages = [Passage("t", text) for text in texts]
    at = 0
    for mark in verify(answer, passages):
        assert at <= mark.start <= mark.stop <= len(answer)
        at = mark.stop
        assert (mark.kind == "unsourced") == (mark.number is None) == (mark.start == mark.stop)
        if mark.number is not None:
            assert str(mark.number) in {
                part.lstrip("0") or "0" for part in (answer[mark.start : mark.stop].strip("[]"),)
            }
            assert (mark.kind == "unknown") == (not 1 <= mark.number <= len(passages))
        assert mark.why


@given(PIECES)
def test_sentences_neither_overlap_nor_leave_out_citations(answer: str) -> None:
    at = 0
    for sentence in sentences(answer):
        assert at <= sentence.start < sentence.stop <= len(answer)
        at = sentence.stop
        for group in sentence.groups:
            assert all(sentence.start <= one.start < one.stop <= sentence.stop for one in group)


WORDS = st.lists(
    st.sampled_from(["lease", "begins", "rent", "month", "tenant", "april", "water", "14", "días", "größe"]),
    min_size=3,
    max_size=9,
)


@given(WORDS, WORDS, WORDS, st.randoms(use_true_random=False))
def test_a_quotation_is_quoted_exactly_where_the_passage_has_it(
    before: list[str], said: list[str], behind: list[str], chance: random.Random
) -> None:
    """Against plain search in lists of words."""
    quotation = " ".join(chance.choice([word, word.upper()]) for word in said)
    passage = Passage("t", chance.choice([" ", "\n"]).join([*before, *behind]))
    words = plain(passage.text).split()
    wanted = plain(quotation).split()
    holds = any(words[n : n + len(wanted)] == wanted for n in range(len(words)))
    assert [mark.kind for mark in verify(f'Lo: "{quotation}" [1].', [passage])] == [
        "quoted" if holds else "missing"
    ]
    full = Passage("t", " ".join([*before, *said, *behind]))
    assert [mark.kind for mark in verify(f'Lo: "{quotation}" [1].', [full])] == ["quoted"]


@pytest.mark.parametrize(
    "piece",
    [
        '"',
        "[",
        "`",
        "$",
        ".",
        ". [1]",
        "[1] ",
        "\n",
        "```\n",
        "\\(",
        "> ",
        'a "',
        "「",
        "* ",
        "[1",
        '"a b c" [1] ',
    ],
)
@pytest.mark.timeout(20)
def test_no_answer_takes_long(piece: str) -> None:
    """Each took milliseconds when this was written; whatever grows with the square of the length takes minutes."""
    verify(piece * 20_000, PASSAGES)
