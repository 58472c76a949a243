"""Documents in the history's file: found by their words in any script, gone when they are deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.server.documents import store
from farthing.server.pages.history import History
from farthing.server.protocol.errors import ApiError

Do = Callable[..., Any]
LEASE = "The rent is 1,400 euros a month.\n\n" + "Nothing of note is said here about anything. " * 9
LEASE += "\n\nThe citations of the tenant's contract end in April."
JAPANESE = "東京都は日本の首都である。" + "人口は約千四百万人。" * 40 + "京都には寺が多い。"


@pytest.fixture
def do() -> Iterator[Do]:
    history = History(None)
    yield lambda method, *given: asyncio.run(history.do(method, *given))
    history.close()


def add(do: Do, title: str, text: str) -> str:
    return str(do(store.add, title, text, 10)["id"])


@pytest.mark.parametrize(
    ("question", "holds"),
    [
        ("What does the RENT cost?", "1,400 euros"),
        ("citation", "citations of the tenant"),  # another ending
        ("1400", "1,400"),
        ("首都はどこ？", "日本の首都"),
        ("寺", "寺が多い"),  # a single character
        ("STRASSE", "Große Straße"),
        ("grosse", "Große Straße"),
        ("हिन्दी", "हिन्दी में"),
        ("Überlingen", "ueberall in U\u0308berlingen"),  # composed and decomposed
        ("cafe", "Café"),
        ("ภาษาไทย", "ภาษาไทย"),
    ],
)
def test_a_passage_is_found_by_its_words(do: Do, question: str, holds: str) -> None:
    others = "Große Straße. हिन्दी में लिखा. ueberall in U\u0308berlingen. Café. เขียนภาษาไทยได้"
    documents = [add(do, "lease", LEASE), add(do, "東京", JAPANESE), add(do, "others", others)]
    assert holds in do(store.search, documents, question, 3)[0].text


def test_only_the_documents_asked_for_are_searched_and_offsets_lead_to_the_text(do: Do) -> None:
    lease, other = add(do, "lease", LEASE), add(do, "other", "The rent is due on Monday.")
    found = do(store.search, [other], "rent", 5)
    assert [source.document for source in found] == [other]
    assert do(store.search, [], "rent", 5) == []
    for source in do(store.search, [lease, other], "the rent of April", 5):
        whole = do(store.whole, source.document)
        assert whole["text"][source.start : source.stop] == source.text
        assert source.title == whole["title"]
    assert do(store.beginning, [lease, other], 9)[0].start == 0


def test_what_was_deleted_is_not_found_and_leaves_nothing(do: Do) -> None:
    lease = add(do, "lease", LEASE)
    assert do(store.known, [lease, "0" * 32, lease]) == [lease]
    do(store.remove, lease)
    assert do(store.search, [lease], "rent", 5) == []
    assert do(store.known, [lease]) == []
    for table in ("documents", "passages", "passage_words"):
        count = do(
            lambda history, table=table: history.db.execute(f"select count(*) from {table}").fetchone()
        )
        assert tuple(count) == (0,)
    for method in (store.whole, store.remove, store.shown):
        with pytest.raises(ApiError, match="no such document"):
            do(method, lease)


def test_no_more_documents_are_kept_than_there_may_be(do: Do) -> None:
    do(store.add, "one", "text", 1)
    with pytest.raises(ApiError, match="delete one"):
        do(store.add, "two", "text", 1)


ODD = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(['"', "*", "NEAR(", "AND", "OR", "NOT", "a", "words:", "^", "-", "+", "字", "'", ";"])
    ).map(" ".join),
)


@given(ODD)
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_no_question_is_an_expression(do: Do, question: str) -> None:
    document = add(do, "a", "a words NEAR or 字") if not do(store.listed) else do(store.listed)[0]["id"]
    found = do(store.search, [document], question, 3)
    words = {"a", "words", "near", "or"}
    assert bool(found) or not words.intersection(question.casefold().split())


@given(st.text(min_size=1, max_size=300))
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_any_text_is_found_by_any_of_its_passages(do: Do, text: str) -> None:
    text = text.replace("\0", " ")
    document = do(store.add, "any", text, 10**6)["id"]
    for source in do(store.beginning, [document], 50):
        expression = store.match_of(source.text)
        assert bool(do(store.search, [document], source.text, 50)) or not expression
