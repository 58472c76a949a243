from hypothesis import given
from hypothesis import strategies as st

from farthing.text.added import AddedToken, Control
from farthing.text.segments import Page, Segment, common_prefix, common_suffix, cut, take_apart

TOKENS = ["<a>", "<ab>", "</a>", "<a>more"]
CONTROL = Control([AddedToken(token, index, True, False, False) for index, token in enumerate(TOKENS)])
TEXTS = st.lists(st.sampled_from([*TOKENS, "<", "a", ">", "b", " ", "more"]), max_size=8).map("".join)


def page(text: str) -> Page:
    return take_apart(text, CONTROL)


@given(TEXTS)
def test_segments_cover_the_text(text: str) -> None:
    segments = page(text).segments
    assert "".join(part.text for part in segments) == text
    assert (
        [part.start for part in segments] == [0, *(part.end for part in segments)][:-1]
        if segments
        else not text
    )
    assert all(part.text and (part.token_id is None) == (part.text not in TOKENS) for part in segments)


def test_the_longest_token_at_a_place_is_meant() -> None:
    assert [part.token_id for part in page("<a>more<a><ab>mor").segments] == [3, 0, 1, None]


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_common_is_found(shared: str, left: str, right: str) -> None:
    one, other = page(f"{shared} 1{left}"), page(f"{shared} 2{right}")
    assert common_prefix(one, other) == len(shared) + 1
    assert common_suffix(page(f"{left}1 {shared}"), page(f"{right}2 {shared}")) == len(shared) + 1


def test_a_control_token_is_one_character() -> None:
    assert common_prefix(page("x<ab>"), page("x<a>")) == 1
    assert common_prefix(page("x<ab>"), page("x<ac>")) == 1
    assert common_suffix(page("<ab>x"), page("<a>x")) == 1
    assert common_suffix(page("<ab>x"), page("cb>x")) == 1
    assert common_prefix(page("xya"), page("xyb")) == 2


def test_ordinary_text_is_cut_at_edges_and_control_tokens_are_not() -> None:
    assert cut(Segment("hello", None, 10), [3, 10, 12, 12, 15, 99]) == [
        Segment("he", None, 10),
        Segment("llo", None, 12),
    ]
    assert cut(Segment("<ab>", 1, 10), [12]) == [Segment("<ab>", 1, 10)]
