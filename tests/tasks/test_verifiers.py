"""Every verifier on the table of right and wrong answers, and the properties that votes rely on."""

import importlib.util
import re
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.tasks.verifiers import VERIFIERS, choice, exact, extract, math, numeric
from farthing.tasks.verifiers.format import read

ROOT = Path(__file__).resolve().parents[2]


def load_bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_verifiers", ROOT / "bench" / "verifiers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bench = load_bench()
ROWS = bench.read_table()


@pytest.fixture(scope="module")
def scores() -> list:
    return bench.judge(ROWS)


def test_the_table_is_judged_as_labelled_except_for_the_known_misses(scores: list) -> None:
    wrong = []
    for row, score in zip(ROWS, scores, strict=True):
        agrees = bench.outcome(score) == row.expected
        if agrees == row.known_miss:
            wrong.append(f"{row.verifier} {row.kind}: {row.answer[:60]!r} against {row.gold[:40]!r}: {score}")
    assert not wrong, "\n".join(wrong)


def test_equal_canonical_forms_mean_equal_verdicts(scores: list) -> None:
    verdicts: dict[tuple, set] = defaultdict(set)
    for row, score in zip(ROWS, scores, strict=True):
        if score.answer is not None and "tolerance" not in row.options:
            verdicts[(row.verifier, row.gold, str(row.options), score.answer)].add(score.correct)
    assert not {key: found for key, found in verdicts.items() if len(found) > 1}


def test_right_answers_mostly_vote_together(scores: list) -> None:
    forms: dict[tuple, list] = defaultdict(list)
    for row, score in zip(ROWS, scores, strict=True):
        if score.correct == 1.0 and "tolerance" not in row.options:
            forms[(row.verifier, row.kind, row.gold)].append(score.answer)
    shares = [max(map(found.count, found)) / len(found) for found in forms.values()]
    assert sum(shares) / len(shares) > 0.8


def test_the_table_covers_every_verifier_that_judges_an_answer() -> None:
    assert {row.verifier for row in ROWS} == set(VERIFIERS) - {"format"}
    assert len(ROWS) > 500
    assert sum(row.known_miss for row in ROWS) < len(ROWS) / 10


def test_the_page_shows_what_the_table_gives(scores: list) -> None:
    page = (ROOT / "docs" / "verifiers.md").read_text(encoding="utf-8")
    assert bench.as_markdown(bench.rates(ROWS, scores)) in page, "run python bench/verifiers.py --write"


@given(st.text(max_size=200))
def test_no_text_upsets_an_in_process_verifier(text: str) -> None:
    for verdict in (
        exact.verify(text, "a"),
        numeric.verify(text, "5"),
        numeric.verify(text, "5", prose=True, decimal=","),
        choice.verify(text, "A", choices=["x", "y"]),
    ):
        assert verdict.correct in (0.0, 1.0)
    assert math.prepare(text, "5") is not None


@given(st.fractions(max_denominator=1000), st.sampled_from(["auto", ".", ","]))
def test_a_number_is_read_back_as_written(value, decimal) -> None:
    assert numeric.find_number(str(value), decimal=decimal) == value
    assert numeric.verify(str(value), str(value), decimal=decimal).correct == 1.0


@given(st.integers(-(10**12), 10**12), st.integers(0, 99))
def test_grouped_money_is_read_in_both_conventions(whole: int, cents: int) -> None:
    sign = "-" if whole < 0 else ""
    english = f"{sign}{abs(whole):,}.{cents:02}"
    other = english.translate(str.maketrans(",.", ".,"))
    expected = numeric.find_number(f"{sign}{abs(whole)}.{cents:02}")
    assert numeric.find_number(english) == expected
    assert numeric.find_number(other, decimal=",") == expected


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (r"\boxed{1} and \boxed{2}", ["1", "2"]),
        (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]),
        (r"\boxed{\boxed{3}}", [r"\boxed{3}"]),
        (r"\boxed{\}}", [r"\}"]),
        (r"\boxed{1", []),
        (r"\boxed 7", ["7"]),
        (r"\boxed", []),
        (r"\fbox{x}", ["x"]),
    ],
)
def test_boxes(text: str, boxes: list[str]) -> None:
    assert extract.boxes(text) == boxes


@given(
    st.lists(st.sampled_from(["\\boxed{", "\\boxed ", "{", "}", "\\", "a", " "]), max_size=14).map("".join)
)
def test_boxes_close_where_their_own_brace_does(text: str) -> None:
    """Against a reader that counts braces from each box on."""

    def close(start: int) -> int | None:
        depth, at = 0, start
        while at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                return at
            at += 2 if text[at] == "\\" else 1
        return None

    expected, end = [], 0
    for match in re.finditer(r"\\boxed\s*(?=[{\w])", text):
        start = match.end()
        if start < end:
            continue
        if text[start] != "{":
            expected.append(text[start])
        elif (found := close(start)) is not None:
            expected.append(text[start + 1 : found].strip())
            end = found
    assert extract.boxes(text) == expected


def test_scanning_stays_linear_on_hostile_text() -> None:
    for text in (
        r"\boxed{" * 100_000,
        "####" * 100_000,
        "1," * 100_000,
        "{" * 300_000,
        "A" * 300_000,
        "$" * 300_000,
        r"\boxed{" * 64 + "a" * 300_000,
        "<answer>1</answer>" * 50_000,
        "<think>" * 50_000,
    ):
        extract.marked(text)
        extract.final(text)
        numeric.verify(text, "5", prose=True)
        choice.verify(text, "A", choices=["x", "y"])
        math.prepare(text, "5")
        read(text, "boxed")


@pytest.mark.parametrize(
    ("completion", "form", "answer", "well_formed"),
    [
        ("<think>a</think><answer>5</answer>", "tags", "5", True),
        ("<think>a</think>\n<answer> 5 </answer>\n", "tags", "5", True),
        ("<answer>5</answer>", "tags", "5", False),
        ("<think>a</think><answer>5", "tags", None, False),
        ("<think>a</think><answer> </answer>", "tags", None, False),
        ("<think>a</think>It is \\boxed{5}.", "boxed", "5", True),
        ("<think>\\boxed{5}</think>done", "boxed", None, False),
        ("<think>a</think>\\boxed{4} \\boxed{5}", "boxed", "5", False),
        ("<think>a \\boxed{5}", "boxed", None, False),
        ("It is \\boxed{5}.", "boxed", "5", False),
        ("<think>a</think>It is 5.", "boxed", None, False),
        ("<think>a</think>It is 5.", "free", "It is 5.", True),
        ("It is 5.", "free", "It is 5.", False),
        ("<think>a</think>", "free", None, False),
        ("<think>a</think><answer>5</answer>", "free", "5", False),
    ],
)
def test_forms(completion: str, form: str, answer: str | None, well_formed: bool) -> None:
    reading = read(completion, form)
    assert (reading.answer, reading.well_formed) == (answer, well_formed)
