from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.text.regions import Region, RegionParser, Regions, split

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
FRAGMENTS = st.sampled_from(
    [*TAGS, "<", ">", "</", "<thi", "nk>", "think>", "</answer", "a", " ", "\n", "<think", "é"]
)
TEXTS = st.lists(FRAGMENTS, max_size=25).map("".join)


def in_pieces(
    text: str, cuts: list[int], start: bool
) -> tuple[list[tuple[Region, str]], list[tuple[Region, str]]]:
    """What a parser gives for `text` cut at `cuts`: (neighbours of one region joined, blocks)."""
    parser = RegionParser(start)
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    given = [pair for low, high in pairwise(edges) for pair in parser.feed(text[low:high])]
    given += parser.finish()
    joined: list[tuple[Region, str]] = []
    for region, piece in given:
        if joined and joined[-1][0] == region:
            joined[-1] = (region, joined[-1][1] + piece)
        else:
            joined.append((region, piece))
    return joined, [(block.region, block.text) for block in parser.blocks]


@given(TEXTS, st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_the_cuts_do_not_matter(text: str, cuts: list[int], start: bool) -> None:
    assert in_pieces(text, cuts, start) == in_pieces(text, [], start)


@given(TEXTS)
def test_one_character_at_a_time_is_no_different(text: str) -> None:
    assert in_pieces(text, list(range(len(text))), False) == in_pieces(text, [], False)


@given(TEXTS, st.booleans())
def test_nothing_is_lost_but_the_tags_that_meant_something(text: str, start: bool) -> None:
    parser = RegionParser(start)
    pieces = [piece for _, piece in [*parser.feed(text), *parser.finish()]]
    turns = len(parser.blocks) - 1
    assert len(text) - sum(map(len, pieces)) in range(7 * turns, 9 * turns + 1)


@given(TEXTS)
def test_streaming_holds_back_less_than_a_tag(text: str) -> None:
    parser = RegionParser()
    shown = sum(len(piece) for _, piece in parser.feed(text))
    held = sum(len(piece) for _, piece in parser.finish())
    assert held < len("</answer>")
    assert shown + held <= len(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think><answer>b</answer>", Regions("a", "b", "", True)),
        (" <think>a</think>\n<answer> b </answer>\n", Regions("a", " b ", " \n\n", True)),
        ("<think></think><answer></answer>", Regions("", "", "", True)),
        ("", Regions(None, None, "", False)),
        ("4", Regions(None, None, "4", False)),
        ("<answer>b</answer>", Regions(None, "b", "", False)),
        ("<think>a</think>b", Regions("a", None, "b", False)),
        ("<think>a</think>so <answer>b</answer>", Regions("a", "b", "so ", False)),
        ("<think>a</think><answer>b</answer>!", Regions("a", "b", "!", False)),
        ("<answer>b</answer><think>a</think>", Regions("a", "b", "", False)),
        ("<think>a", Regions("a", None, "", False)),
        ("<think>a</think><answer>b", Regions("a", None, "", False)),
        ("<think>a</think><answer>b</ans", Regions("a", None, "", False)),
        ("<think>a</think><answer>b</answer><answer>c</answer>", Regions("a", "c", "", False)),
        ("<think>a</think><think>b</think><answer>c</answer>", Regions("a", "c", "", False)),
        (
            "<think>a<answer>b</answer></think><answer>c</answer>",
            Regions("a<answer>b</answer>", "c", "", False),
        ),
        ("<think>a<think>b</think><answer>c</answer>", Regions("a<think>b", "c", "", False)),
        ("<think>a</think><answer><answer>c</answer>", Regions("a", "<answer>c", "", False)),
        ("a</think><answer>b</answer>", Regions(None, "b", "a</think>", False)),
        ("<think>a</think><answer>b</answer></answer>", Regions("a", "b", "</answer>", False)),
        ("<THINK>a</THINK><answer>b</answer>", Regions(None, "b", "<THINK>a</THINK>", False)),
    ],
)
def test_split(text: str, expected: Regions) -> None:
    assert split(text) == expected


def test_tool_calls_are_a_region_where_they_are_asked_for() -> None:
    text = '<think>a</think>so<tool_call>{"name": "<answer>"}</tool_call>'
    parser = RegionParser(tools=True)
    assert [*parser.feed(text), *parser.finish()] == [
        ("thinking", "a"),
        ("text", "so"),
        ("tool_call", '{"name": "<answer>"}'),
    ]
    assert RegionParser().feed("<tool_call>x") == [("text", "<tool_call>x")]


def test_a_turn_that_the_prompt_opened() -> None:
    assert split("a</think><answer>b</answer>", start_in_thinking=True) == Regions("a", "b", "", True)
    assert split("never mind", start_in_thinking=True) == Regions("never mind", None, "", False)


def test_pieces_are_given_out_as_soon_as_they_are_sure() -> None:
    parser = RegionParser()
    assert parser.feed("<thi") == []
    assert parser.feed("nk>2+2") == [("thinking", "2+2")]
    assert parser.region == "thinking"
    assert parser.feed(" = 4</") == [("thinking", " = 4")]
    assert parser.feed("b>") == [("thinking", "</b>")]
    assert parser.feed("</think>\n<answer>4") == [("text", "\n"), ("answer", "4")]
    assert parser.finish() == []
