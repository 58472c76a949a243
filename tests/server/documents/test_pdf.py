"""PDFs as documents: read page by page, found, cited with their page; those that cannot be read are told so."""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.server.documents.passages import PAGE_BREAK, split
from farthing.server.documents.pdf import Refused, cleaned, rejoined, text_of
from farthing.server.documents.verification import verify
from tests.server.conftest import make_model, make_tokenizer
from tests.server.documents.pdfs import encrypted_pdf, endless_pdf, operators, pdf, scanned_pdf, text_pdf
from tests.server.pages.test_history import finished, make, reply, say

LEASE = text_pdf(
    ("Contract",),
    (),
    ("The lease be-", "gins on 1 May 2024. The of\001ce is on the", "second \002oor, and the rent is"),
    ("1,400 euros a month.",),
)
TEXT = (
    "Contract\f\fThe lease begins on 1 May 2024. The office is on the\nsecond floor, and the rent is"
    "\f1,400 euros a month."
)
ANSWER = '"the rent is 1,400 euros" [1]. "The lease be\u00adgins" there and "the second ﬂoor" too [1].'


def send(server: Any, data: bytes, title: str = "lease.pdf", **more: Any) -> httpx.Response:
    headers = {"content-type": "application/pdf"}
    answer: httpx.Response
    with server.client() as client:
        answer = client.post("/api/documents", params={"title": title}, content=data, headers=headers, **more)
    return answer


def refusal(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    message = str(answer.json()["error"]["message"])
    assert "\n" not in message
    return message


# ---- from bytes to text


def test_the_pages_come_in_order_with_their_words_whole() -> None:
    assert text_of(LEASE, 10, 1000) == {"text": TEXT, "blank": 1}


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("\ufb01nd a\ufb04ict \ufb06", "find afflict st"),
        ("so\u00adft hy\u00ad\n  phen", "soft hyphen"),
        ("a\rb\r\nc\x0cd\x0be  \n", "a\nb\nc\nd e"),
        ("nul\0 bell\x07 half \ud83d", "nul bell half "),
        ("推理 olá 🙂 हिन्दी", "推理 olá 🙂 हिन्दी"),
    ],
)
def test_what_no_text_has_is_taken_out_of_a_page(page: str, text: str) -> None:
    assert cleaned(page) == text.strip()


@pytest.mark.parametrize(
    ("divided", "whole"),
    [
        ("an exam-\nple", "an example"),
        ("an exam-\n  ple, an example", "an example, an example"),
        ("a well-\nknown and well-known one", "a well-known and well-known one"),
        ("a co-\noperation, co-operation, cooperation", "a cooperation, co-operation, cooperation"),
        ("Schleswig-\nHolstein", "Schleswig-\nHolstein"),
        ("pages 3-\n5 and a -\nb", "pages 3-\n5 and a -\nb"),
        ("über-\nall", "überall"),
    ],
)
def test_words_divided_at_the_end_of_a_line_are_whole_again(divided: str, whole: str) -> None:
    assert rejoined(divided) == whole


def test_a_page_that_is_one_run_of_letters_takes_no_longer_than_another() -> None:
    long = "a" * 400_000 + "-\n" + "b" * 400_000
    assert rejoined(cleaned(long)) == long


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encrypted_pdf(), "it is encrypted; save it without a password first"),
        (scanned_pdf(), "there is no text in it; a scan needs text recognition (OCR) first"),
        (b"%PDF-1.7 \xe2\xe3\xcf\xd3", "it is damaged"),
        (LEASE[:300], "it is damaged"),
        (pdf(operators("x") * 4, repeat=11), "it has 11 pages; at most 10"),
        (
            text_pdf(("words and words",) * 40, ("more",) * 150),
            "its text has more than 1,000 bytes; split it",
        ),
        (pdf(b" " * 90_000_000), "its pages are damaged, or larger than a page should be"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_refused_in_a_few_words(data: bytes, said: str) -> None:
    with pytest.raises(Refused) as caught:
        text_of(data, 10, 1000)
    assert str(caught.value) == said


MUTATIONS = st.lists(st.tuples(st.integers(0, len(LEASE) - 1), st.binary(max_size=4)), min_size=1, max_size=8)


@given(MUTATIONS)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_damage_is_a_bug(mutations: list[tuple[int, bytes]]) -> None:
    data = bytearray(LEASE)
    for place, piece in mutations:
        data[place : place + len(piece)] = piece
    try:
        found = text_of(bytes(data), 10, 1000)
    except Refused:
        return
    assert found["text"].encode()


def test_memory_is_bounded() -> None:
    """The same file within 16 MiB and within 512: the first run must be refused, and say why."""
    big, said = pdf(b"BT /F1 12 Tf (x) Tj ET " + b" " * 20_000_000), []
    for memory in (16 << 20, 512 << 20):
        command = [sys.executable, "-m", "farthing.server.documents.pdf", "10", "1000", "60", str(memory)]
        done = subprocess.run(command, input=big, capture_output=True, timeout=60, check=True)
        said.append(json.loads(done.stdout))
    assert said == [{"refused": "reading it takes more than 16 MiB of memory"}, {"text": "x", "blank": 0}]


# ---- as a document


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("script") / "answer.txt"


@pytest.fixture(scope="module")
def reader(start_server: Callable[..., Any], script: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose replies say what stands in `script`."""
    script.write_text("")
    model = make_model(tmp_path_factory.mktemp("served") / "reader", make_tokenizer(), context=4096)
    return start_server([("reader", model)], script=str(script))


def test_a_pdf_becomes_a_document_and_its_passages_have_pages(reader: Any, script: Path) -> None:
    answer = send(reader, LEASE, " lease.pdf ")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert {
        "title": "lease.pdf",
        "passages": 1,
        "blank": 1,
        "bytes": len(TEXT.encode()),
    }.items() <= made.items()
    assert reader.get(f"/api/documents/{made['id']}").json()["text"] == TEXT
    script.write_text(ANSWER)
    talk = make(reader, max_tokens=400, documents=[made["id"]])
    said = say(reader, talk, "When does the lease begin?")
    details = finished(reader, reply(reader, talk, parent=said["id"])["id"])["details"]
    (source,) = details["sources"]
    assert source | {"page": 1, "text": TEXT} == source
    assert [mark["kind"] for mark in details["marks"]] == ["quoted", "quoted"]
    text = reader.get(f"/api/conversations/{talk}/export?form=markdown").text
    assert "> [1] lease.pdf, pages 1–4: Contract The lease begins" in text
    exported = reader.get(f"/api/conversations/{talk}/export?form=json").json()
    taken = reader.post("/api/imports", exported).json()
    assert taken["messages"][1]["details"]["sources"] == details["sources"]
    exported["messages"][1]["details"]["sources"][0]["page"] = 0
    assert reader.post("/api/imports", exported).status_code == 400


def test_a_passage_is_on_the_page_where_it_begins(reader: Any, script: Path) -> None:
    lines = [tuple(f"Page {page} has line {n} of its own." for n in range(30)) for page in range(1, 8)]
    made = send(reader, text_pdf(*lines)).json()
    text = reader.get(f"/api/documents/{made['id']}").json()["text"]
    script.write_text("")
    talk = make(reader, max_tokens=20, documents=[made["id"]])
    said = say(reader, talk, "What is line 3 of page 5?")
    sources = finished(reader, reply(reader, talk, parent=said["id"])["id"])["details"]["sources"]
    assert len(sources) > 1
    for source in sources:
        assert source["text"].startswith(f"Page {source['page']} has")
        assert source["page"] == text.count(PAGE_BREAK, 0, source["start"]) + 1
    assert 5 in {source["page"] for source in sources}


def test_a_sentence_is_quoted_across_pages_and_hyphens_alike_on_both_sides() -> None:
    passages = [f"the rent{PAGE_BREAK}is 1,400 euros and the of\ufb01ce is ex\u00ad\ncellent"]

    class Page:
        title, text = "", passages[0]

    for quotation in (
        "the rent is 1,400 euros",
        "the office is excellent",
        "the of\ufb01ce is ex\u00adcellent",
    ):
        (mark,) = verify(f'"{quotation}" [1].', [Page()])
        assert mark.kind == "quoted", quotation
    assert [passages[0][one.start : one.stop] for one in split(passages[0])] == passages


def test_pages_of_a_text_count_as_well_and_a_text_without_any_has_none(reader: Any, script: Path) -> None:
    script.write_text("")
    for text, page in (("one\ftwo", 1), ("one two", None)):
        made = reader.post("/api/documents", {"title": "t", "text": text}).json()
        talk = make(reader, max_tokens=5, documents=[made["id"]])
        said = say(reader, talk, "two?")
        (source,) = finished(reader, reply(reader, talk, parent=said["id"])["id"])["details"]["sources"]
        assert source.get("page") == page


def test_what_is_no_pdf_is_refused(reader: Any) -> None:
    assert refusal(send(reader, b"just words")) == "this is no PDF"
    assert refusal(send(reader, b"")) == "this is no PDF"
    assert refusal(send(reader, LEASE, " ")) == "title: a few words"
    assert refusal(send(reader, LEASE, "x" * 201)).startswith("title: ")
    assert refusal(send(reader, scanned_pdf())).startswith("this PDF cannot be read: there is no text in it;")
    with reader.client() as client:
        path, headers = "/api/documents?title=x", {"content-type": "application/octet-stream"}
        assert client.post(path, content=LEASE, headers=headers).status_code == 415


# ---- within bounds


@pytest.fixture(scope="module")
def hurried(start_server: Callable[..., Any], model_directory: Path) -> Any:
    """A server that gives a PDF three seconds, and 100,000 bytes."""
    return start_server([("tiny", model_directory)], limits={"pdf_seconds": 3.0, "pdf_bytes": 100_000})


def reading(server: Any) -> list[int]:
    """The processes that read a PDF now."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"documents.pdf" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_one_that_never_ends_is_ended_and_the_server_answers_meanwhile(hurried: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send, hurried, endless_pdf())
        until(lambda: bool(reading(hurried)))
        assert hurried.chat(max_tokens=2)["choices"]
        assert refusal(sent.result()) == "this PDF cannot be read: reading it takes longer than 3 s"
    assert reading(hurried) == []
    assert send(hurried, LEASE).status_code == 201


def test_a_client_that_leaves_takes_the_process_with_it(hurried: Any) -> None:
    with pytest.raises(httpx.ReadTimeout):
        send(hurried, endless_pdf(), timeout=1.0)
    until(lambda: reading(hurried) == [], 2.0)


def test_only_a_few_wait_and_nothing_is_larger_than_it_may_be(hurried: Any) -> None:
    def outcome(_: int) -> str:
        try:
            answer = send(hurried, endless_pdf(), timeout=2.0)
        except httpx.ReadTimeout:
            return "waits"
        return f"{answer.status_code}, again after {answer.headers['retry-after']}"

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(outcome, range(6))) == ["429, again after 10"] * 2 + ["waits"] * 4
    answer = send(hurried, LEASE + b"\n" * 100_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_the_process_goes_with_the_server(start_server: Callable[..., Any], model_directory: Path) -> None:
    server = start_server([("tiny", model_directory)], wait=False)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send, server, endless_pdf())
        until(lambda: bool(reading(server)))
        (process,) = reading(server)
        errors = server.end()
        with pytest.raises((httpx.HTTPError, AssertionError)):
            assert sent.result().status_code == 201
    assert "Traceback" not in errors, errors
    until(lambda: not Path(f"/proc/{process}").exists(), 5.0)
