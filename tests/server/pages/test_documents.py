"""Documents on the chat page, in a real browser: added, asked, their citations seen, their passages opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farthing.server.documents.passages import split
from farthing.server.documents.pdf import text_of
from tests.chromium import needs_chromium
from tests.server.conftest import make_model, make_tokenizer
from tests.server.documents.pdfs import encrypted_pdf, scanned_pdf, text_pdf
from tests.server.pages.browsing import ATTACKS, Chat

pytestmark = needs_chromium

LEASE = "The lease begins on 1 May 2024 🙂.\n\nThe rent is 1,400 euros a month. The tenant may keep one cat."
ANSWER = """\
The lease 🙂 **begins** "on 1 May 2024" [1]. The rent is 1,400 euros [1, 2].

- Dogs live there, says "the tenant may keep one dog" [1]
- Parrots shout all night.

| What | Where |
|---|---|
| the rent | [7] |
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "answer.txt"
    path.write_text(ANSWER, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pages(start_server: Callable[..., Any], script: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose replies say what stands in `script`; its card asks for no more than they need."""
    folder = tmp_path_factory.mktemp("served") / "reader"
    model = make_model(folder, make_tokenizer(), context=4096)
    card = model / "farthing.json"
    card.write_text(card.read_text().replace('"max_new_tokens": 64', '"max_new_tokens": 1000'))
    return start_server([("reader", model)], script=str(script))


def add_file(opened: Chat, name: str, content: bytes) -> None:
    if (
        opened.page.get_by_role("button", name="Documents", exact=False).get_attribute("aria-expanded")
        == "false"
    ):
        opened.page.get_by_role("button", name="Documents", exact=False).click()
    opened.page.get_by_label("Add files").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content}
    )


def look_at(visit: Any, pages: Any, talk: str, **settings: Any) -> Chat:
    opened: Chat = visit("/", **settings)
    opened.page.goto(f"{pages.url}/#/c/{talk}")
    opened.page.wait_for_selector(".thread")
    return opened


def test_a_document_is_added_asked_and_its_passage_opened(visit: Any, pages: Any) -> None:
    opened = visit("/")
    page = opened.page
    add_file(opened, "lease.txt", LEASE.encode())
    page.wait_for_selector(".shelf input:checked")
    assert page.locator(".chosen").inner_text() == "Answers from “lease.txt”"
    page.keyboard.press("Escape")
    opened.send("When does the lease begin?")
    opened.settled()
    cites = page.locator(".prose .cite")
    assert cites.all_inner_texts() == [
        "1",
        "1",
        "2 no such passage",
        "1 not in the source",
        "no source",
        "7 no such passage",
    ]
    assert [one.get_attribute("class") for one in cites.all()][:4] == [
        "cite quoted", "cite worded", "cite unknown", "cite missing",
    ]  # fmt: skip
    assert page.locator(".prose strong").inner_text() == "begins"
    assert page.locator(".prose table td").count() == 2
    assert page.locator(".sources .fold").inner_text().split("\n")[-1] == (
        "1 passage given · 1 citation word for word · 1 in the passage's words · 3 citations do not hold"
        " · 1 sentence without a source"
    )
    cites.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] mark")
    assert page.locator("dialog mark").inner_text() == LEASE
    assert page.locator("dialog .text").inner_text() == LEASE
    assert page.locator("dialog .why").text_content() == "the quotation stands in passage 1, word for word."
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.get_by_label("Passage 1: the quotation is not in passage 1").click()
    assert page.locator("dialog .doubt").text_content() == "the quotation is not in passage 1."
    page.get_by_label("Close the document").click()
    page.reload()
    opened.settled()
    assert cites.count() == 6
    page.wait_for_selector(".chosen:text('lease.txt')")


PAGES = text_pdf(
    *(tuple(f"Page {page} has line {n} of its own." for n in range(20)) for page in (1, 2)),
    ("The lease be-", "gins on 1 May 2024."),
)


def test_a_citation_of_a_pdf_opens_its_passage_and_says_the_page(
    visit: Any, pages: Any, script: Path
) -> None:
    last = len(split(text_of(PAGES, 9, 9999)["text"]))
    script.write_text(f'It "begins on 1 May 2024" [{last}].', encoding="utf-8")
    opened = visit("/")
    page = opened.page
    add_file(opened, "report.pdf", PAGES)
    page.wait_for_selector(".shelf input:checked")
    assert page.locator(".trouble").count() == 0
    page.keyboard.press("Escape")
    opened.send("When does the lease begin?")
    opened.settled()
    page.locator(".sources .fold").click()
    assert page.locator(".sources li .title").first.inner_text() == "report.pdf, page 1"
    assert page.locator(".sources li .title").last.inner_text() == "report.pdf, pages 2–3"
    page.locator(".prose .cite.quoted").click()
    page.wait_for_selector("dialog[open] mark")
    assert page.locator("dialog h2").inner_text() == "report.pdf, pages 2–3"
    assert page.locator("dialog .folio").all_inner_texts() == ["page 1", "page 2", "page 3"]
    assert page.locator("dialog mark .folio").all_inner_texts() == ["page 3"]
    assert page.locator("dialog mark").inner_text().endswith("\nThe lease begins on 1 May 2024.")
    box = page.locator("dialog mark .folio").bounding_box()
    assert 0 <= box["y"] < 720, "the page is in view"
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.get_by_role("button", name="Documents", exact=False).click()
    page.get_by_label("Delete report.pdf").click()
    page.get_by_role("button", name="Really delete?").click()
    page.wait_for_selector(".shelf .title:text('report.pdf')", state="detached")
    page.locator(".prose .cite.quoted").click()
    page.wait_for_selector("dialog[open]:has-text('The document is not here any more')")
    assert page.locator("dialog .folio").all_inner_texts() == ["page 2", "page 3"]
    opened.complaints[:] = [one for one in opened.complaints if "404" not in one]


def test_pages_without_text_are_told_and_pdfs_without_any_are_refused(visit: Any, pages: Any) -> None:
    opened = visit("/")
    add_file(opened, "half.pdf", text_pdf(("Words.",), ()))
    opened.page.wait_for_selector(
        ".trouble:has-text('half.pdf: 1 of its pages has no text; the others are here.')"
    )
    opened.page.wait_for_selector(".shelf .title:text('half.pdf')")
    for name, data, said in (
        ("secret.pdf", encrypted_pdf(), "it is encrypted; save it without a password first"),
        ("scan.pdf", scanned_pdf(), "there is no text in it; a scan needs text recognition (OCR) first"),
        ("broken.pdf", b"%PDF-1.7 \xe2\xe3\xcf\xd3", "it is damaged"),
    ):
        add_file(opened, name, data)
        words = f"{name}: this PDF cannot be read: {said}"
        opened.page.wait_for_selector(f".trouble:has-text('{words}')")
    assert opened.page.locator(".shelf .title:text('scan.pdf')").count() == 0
    # The browser says of every 400 that it was one.
    opened.complaints[:] = [one for one in opened.complaints if "400" not in one]


def test_a_passage_of_a_document_that_is_gone_is_shown_alone(visit: Any, pages: Any, script: Path) -> None:
    script.write_text(ANSWER, encoding="utf-8")
    opened = visit("/")
    page = opened.page
    page.get_by_role("button", name="Documents").click()
    page.get_by_role("button", name="Paste a text").click()
    page.get_by_label("Text", exact=True).fill(LEASE)
    page.get_by_role("button", name="Add the text").click()
    page.wait_for_selector(".shelf .title:text('The lease begins')")
    opened.send("When does the lease begin?")
    opened.settled()
    row = page.locator(".shelf li").filter(has_text="The lease begins")
    row.get_by_role("button", name="Rename").click()
    page.get_by_label("Title of the document").fill("Contract")
    page.keyboard.press("Enter")
    page.wait_for_selector(".shelf .title:text('Contract')")
    page.get_by_label("Delete Contract").click()
    page.get_by_role("button", name="Really delete?").click()
    page.wait_for_function(
        "() => ![...document.querySelectorAll('.shelf .title')].some(e => e.textContent === 'Contract')"
    )
    page.locator(".prose .cite.quoted").click()
    page.wait_for_selector("dialog[open]:has-text('The document is not here any more')")
    assert page.locator("dialog mark").inner_text() == LEASE
    # The browser says of every 404 that it was one.
    opened.complaints[:] = [one for one in opened.complaints if "404" not in one]


def test_what_is_no_text_is_refused_in_words(visit: Any, pages: Any) -> None:
    opened = visit("/")
    add_file(opened, "report.doc", b"\xd0\xcf\x11\xe0 \0")
    opened.page.wait_for_selector(
        ".trouble:has-text('report.doc: this is no PDF and no plain text (UTF-8).')"
    )
    add_file(opened, "large.txt", b"x" * ((1 << 20) + 1))
    opened.page.wait_for_selector(
        ".trouble:has-text('large.txt: it has 1,048,577 bytes; at most 1,048,576.')"
    )
    assert opened.page.locator(".shelf .title:text('report.doc')").count() == 0


def test_nothing_in_a_document_or_its_title_is_executed(visit: Any, pages: Any, script: Path) -> None:
    """The same attacks as in conversations: as title, as text, as passage, as answer with citations."""
    text = "\n\n".join(ATTACKS)
    made = [
        pages.post("/api/documents", {"title": attack, "text": text}).json()["id"] for attack in ATTACKS[:4]
    ]
    script.write_text(
        "\n\n".join(f"{attack} [1]" for attack in ATTACKS[:9]) + "\ue0000\ue001", encoding="utf-8"
    )
    talk = pages.post("/api/conversations", {"settings": {"documents": made, "max_tokens": 1500}}).json()[
        "id"
    ]
    opened = look_at(visit, pages, talk)
    page = opened.page
    opened.send("pwned window script")
    opened.settled()
    page.locator(".sources .fold").click()
    page.locator(".sources li button").first.click()
    page.wait_for_selector("dialog[open] mark")
    assert "<script>window.pwned=1</script>" in page.locator("dialog .text").inner_text()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Documents", exact=False).click()
    page.wait_for_selector(".shelf .title:text('<script>window.pwned=1</script>')")
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script, main img, main iframe, dialog img").count() == 0


def test_presets_leave_documents_alone(visit: Any, pages: Any) -> None:
    opened = visit("/")
    page = opened.page
    add_file(opened, "kept.txt", b"Some text.")
    page.wait_for_selector(".chosen")
    page.get_by_role("button", name="Options").click()
    page.get_by_label("Keep these settings as").fill("mine")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.wait_for_function("() => document.querySelector('.presets select').value === 'mine'")
    page.get_by_label("Preset").select_option("mine")
    assert page.locator(".chosen").inner_text() == "Answers from “kept.txt”"
    page.get_by_role("button", name="New conversation").click()
    page.wait_for_selector(".chosen", state="detached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_documents_fit_a_phone(visit: Any, pages: Any, script: Path, scheme: str) -> None:
    script.write_text(ANSWER, encoding="utf-8")
    document = pages.post("/api/documents", {"title": "w" * 200, "text": LEASE}).json()["id"]
    talk = pages.post("/api/conversations", {"settings": {"documents": [document]}}).json()["id"]
    opened = look_at(visit, pages, talk, color_scheme=scheme)
    page = opened.page
    page.set_viewport_size({"width": 390, "height": 844})
    opened.send("When does the lease begin?")
    opened.settled()
    page.get_by_role("button", name="Documents", exact=False).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Documents", exact=False).click()
    page.locator(".prose .cite.quoted").click()
    page.wait_for_selector("dialog[open] mark")
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
