"""Texts cut into passages: nothing is lost, nothing is twice, nothing is too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farthing.server.documents.passages import LEAST, MOST, split

TEXTS = st.text(st.sampled_from("ab .!?。\n\t字é🙂"), max_size=400)


@given(TEXTS, st.integers(1, 20), st.integers(0, 40))
def test_passages_hold_all_but_white_space_in_order(text: str, least: int, more: int) -> None:
    at = 0
    for passage in split(text, least, least + more):
        assert at <= passage.start < passage.stop <= passage.start + least + more
        assert not text[at : passage.start].strip()
        held = text[passage.start : passage.stop]
        assert held == held.strip()
        at = passage.stop
    assert not text[at:].strip()


def test_a_passage_ends_with_a_paragraph_a_sentence_a_line_or_a_word() -> None:
    sentence = "One two three four five six seven eight nine ten. "
    paragraph = sentence * 6
    first, second = split(f"{paragraph}\n\n{paragraph}")
    assert (first.stop, second.start) == (len(paragraph) - 1, len(paragraph) + 2)
    long = sentence * 30
    assert all(long[: passage.stop].endswith(".") for passage in split(long))
    table = "a,b,c,d\n" * 200
    assert all(table[: passage.stop].endswith("d") for passage in split(table))
    words = "word " * 300
    assert all(words[: passage.stop].endswith("word") for passage in split(words))
    assert [passage.stop - passage.start for passage in split("x" * 1000)] == [MOST, MOST, 1000 - 2 * MOST]


def test_short_paragraphs_stand_together() -> None:
    text = "# Title\n\nA line.\n\n" + "More text follows here. " * 12
    assert split(text)[0].start == 0
    assert split(text)[0].stop > LEAST
    assert split("") == split(" \n\t") == []
