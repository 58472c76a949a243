"""The pages in a real browser: type, watch the thinking fold, stop, reload in the middle, branch; nothing a model or a
person writes is executed, no request leaves the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from farthing.server.pages.history import History
from tests.chromium import needs_chromium
from tests.server.pages.browsing import ATTACKS, SETTINGS, apart, begin, open_talk

pytestmark = needs_chromium


def test_thinking_has_a_clock_and_folds_when_the_answer_begins(visit: Any, pages: Any) -> None:
    """Greedy: what this model draws may end the thought before its budget does."""
    opened = open_talk(visit, pages, temperature=0.0)
    with pages.frozen():
        opened.send("make 24 of 3, 5 and 8")
        opened.page.wait_for_selector(".thinking.running .clock")
        assert opened.page.locator(".asked .said").inner_text() == "make 24 of 3, 5 and 8"
        assert opened.page.locator(".fold").get_attribute("aria-expanded") == "true"
    opened.settled()
    assert opened.page.locator(".fold").get_attribute("aria-expanded") == "false"
    assert re.match(
        r"›?\s*Thought for\s+[\d.]+ s\s+· 1\d tokens · stopped at its budget",
        opened.page.locator(".fold").inner_text(),
    )
    assert opened.page.locator(".thought").count() == 0
    opened.page.locator(".fold").click()
    assert opened.page.locator(".thought").inner_text() != ""
    assert "context" in opened.page.locator(".numbers").inner_text()


def test_a_reply_is_stopped_and_continued(visit: Any, pages: Any) -> None:
    opened = open_talk(visit, pages, max_tokens=30)
    with pages.frozen():
        opened.send("go on for ever")
        opened.page.get_by_role("button", name="Stop").click()
        opened.page.wait_for_selector("text=Stopped.")
    opened.page.get_by_role("button", name="Continue").click()
    opened.settled()
    assert opened.page.locator(".replied").count() == 1


def test_a_reply_is_found_again_after_a_reload_in_the_middle(visit: Any, pages: Any) -> None:
    opened = open_talk(visit, pages)
    with pages.frozen():
        opened.send("a long story")
        opened.page.wait_for_selector(".thinking.running")
        opened.page.reload()
        opened.page.wait_for_selector(".thinking.running")
    opened.settled()
    text = opened.page.locator(".replied").inner_text()
    opened.page.reload()
    opened.settled()
    assert opened.page.locator(".replied").inner_text() == text


def test_branches_are_made_by_editing_and_regenerating_and_walked_between(visit: Any, pages: Any) -> None:
    opened = open_talk(visit, pages)
    page = opened.page
    opened.send("first words")
    opened.settled()
    page.get_by_role("button", name="Regenerate").click()
    page.wait_for_selector("text=2 of 2")
    opened.settled()
    page.locator(".asked").hover()
    page.locator(".asked").get_by_role("button", name="Edit").click()
    opened.rewrite("Edit your message", "other words")
    page.wait_for_selector(".asked .branches")
    opened.settled()
    assert page.locator(".asked .said").inner_text() == "other words"
    page.locator(".asked").hover()
    page.locator(".asked").get_by_label("Previous version").click()
    page.wait_for_selector(".asked .said:text('first words')")
    assert page.locator(".replied .branches").inner_text().split("\n")[0].startswith("‹")
    page.reload()
    page.wait_for_selector(".asked .said:text('first words')")


def test_a_models_answer_is_edited_on_a_branch_of_its_own_and_continued(visit: Any, pages: Any) -> None:
    opened = open_talk(visit, pages)
    page = opened.page
    opened.send("what is 3*8")
    opened.settled()
    page.locator(".replied").get_by_role("button", name="Edit").click()
    opened.rewrite("Edit the model's answer", "It is")
    page.wait_for_selector(".replied .branches:has-text('2 of 2')")
    assert page.locator(".replied .prose").inner_text() == "It is"
    page.get_by_role("button", name="Continue").click()
    opened.settled()
    assert page.locator(".replied .prose").inner_text().startswith("It is")
    assert page.locator(".numbers").inner_text().endswith("edited by you")


def test_a_conversation_that_was_exported_is_taken_in_again(visit: Any, pages: Any, tmp_path: Path) -> None:
    opened = open_talk(visit, pages)
    page = opened.page
    opened.send("a giraffe passes")
    opened.settled()
    name = page.url.rpartition("/")[2]
    file = tmp_path / "giraffe.json"
    file.write_text(pages.get(f"/api/conversations/{name}/export?form=json").text)
    said = page.locator(".thread").inner_text()
    page.get_by_label("Import a conversation").set_input_files(file)
    page.wait_for_function("name => !location.hash.endsWith(name)", arg=name)
    opened.settled()
    assert page.locator(".thread").inner_text() == said
    file.write_text("no JSON at all")
    page.get_by_label("Import a conversation").set_input_files(file)
    page.wait_for_selector(".trouble:has-text('giraffe.json is not a conversation')")


def test_settings_are_kept_as_a_preset_and_taken_again(visit: Any, pages: Any) -> None:
    page = visit("/").page
    page.get_by_role("button", name="Options").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Keep these settings as").fill("terse")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.wait_for_function("() => document.querySelector('.presets select').value === 'terse'")
    page.reload()
    page.get_by_role("button", name="Options").click()
    assert page.get_by_label("Beside it").count() == 0, "there is one model only"
    assert page.get_by_label("System prompt").input_value() == ""
    page.get_by_label("Preset").select_option("terse")
    page.wait_for_function("() => document.querySelector('.options textarea').value === 'Be brief.'")
    page.get_by_role("button", name="Delete preset").click()
    page.wait_for_selector(".presets option:text('None kept yet')", state="attached")


def test_conversations_are_searched_renamed_and_deleted(visit: Any, pages: Any) -> None:
    opened = open_talk(visit, pages)
    page = opened.page
    opened.send("a zebra crosses")
    opened.settled()
    page.keyboard.press("Control+k")
    page.keyboard.type("ZEBRA")
    page.wait_for_function("() => document.querySelectorAll('.entry').length === 1")
    page.get_by_role("button", name="More about").click()
    page.get_by_role("button", name="Rename").click()
    page.keyboard.press("Control+a")
    page.keyboard.type("Stripes")
    page.keyboard.press("Enter")
    page.wait_for_selector(".entry .title:text('Stripes')")
    with page.expect_download() as download:
        page.get_by_role("link", name="Markdown").click() if page.locator(".acts").count() else _exported(
            page
        )
    assert download.value.suggested_filename == "Stripes.md"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Really delete?").click()
    page.wait_for_selector(".list .none")


def _exported(page: Any) -> None:
    page.get_by_role("button", name="More about").click()
    page.get_by_role("link", name="Markdown").click()


def test_nothing_that_was_written_is_executed(visit: Any, pages: Any) -> None:
    listed = pages.get("/api/conversations").json()["conversations"]
    opened = visit(f"/#/c/{next(one['id'] for one in listed if one['title'] == ATTACKS[1])}")
    page = opened.page
    opened.settled(len(ATTACKS))
    for fold in page.locator(".fold").all():
        fold.click()
    page.wait_for_function("n => document.querySelectorAll('.thought').length === n", arg=len(ATTACKS))
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>text becomes markup in the sanitiser only</b>'")
    opened.complaints.clear()
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    strange = "img, iframe, object, embed, base, form:not(.composer), audio, video, animate, mglyph, style"
    assert page.locator(f"#app :is({strange})").count() == 0
    addresses = page.eval_on_selector_all(".prose a", "links => links.map(link => [link.protocol, link.rel])")
    assert {protocol for protocol, _ in addresses} <= {"https:"}
    assert {rel for _, rel in addresses} == {"noopener noreferrer nofollow"}
    handlers = """[...document.querySelectorAll('#app *')].flatMap(node => [...node.attributes])
        .filter(one => one.name.startsWith('on') || /javascript:/i.test(one.name === 'href' ? one.value : '')).length"""
    assert page.evaluate(handlers) == 0


def test_markdown_and_formulas_become_elements(visit: Any, pages: Any, talks: Path) -> None:
    text = "**b** $x^2$ and\n\n$$\n\\frac{1}{2}\n$$\n\n- \\(y\\)\n\n|a|b|\n|-|-|\n|1|2|\n\n"
    text += "```python\nprint(1)\n```\n\n$5 and `$x$`"

    async def write() -> str:
        history = History(talks)
        talk = await history.do(History.begin, SETTINGS)
        said = await history.do(History.add, talk["id"], None, "user", "show", finish="stop")
        reply = await history.do(History.add, talk["id"], said["id"], "assistant")
        await history.do(History.write, reply["id"], text, "", "stop", {})
        history.close()
        return str(talk["id"])

    page = visit(f"/#/c/{apart(write())}").page
    page.wait_for_selector(".prose .katex")
    assert page.locator(".prose .katex").count() == 3
    assert page.locator(".prose .math.display .katex-display").count() == 1
    assert page.locator(".prose table td").all_inner_texts() == ["1", "2"]
    assert page.locator(".code pre").inner_text().strip() == "print(1)"
    assert page.locator(".code .hljs-built_in").inner_text() == "print"
    assert page.locator(".prose").inner_text().endswith("$5 and $x$")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(visit: Any, pages: Any, scheme: str) -> None:
    page = visit("/", color_scheme=scheme).page
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(pages.url + begin(pages))
    page.wait_for_selector(".thread")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".only-narrow").click()
    page.get_by_role("button", name="New conversation").click()
    page.wait_for_selector(".welcome h1")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 23)"
    assert dark == (scheme == "dark")


def test_the_page_of_runs_draws_a_run_and_keeps_up_with_it(visit: Any, pages: Any) -> None:
    opened = visit("/runs")
    page = opened.page
    page.locator(".runs a", has_text="one").click()
    page.wait_for_selector("#samples .sample")
    assert page.locator("h1").inner_text() == "small"
    assert page.locator(".sample .answer pre").inner_text() == "b"
    assert page.locator(".steps .where").inner_text() == "step 10"
    page.get_by_label("previous step").click()
    page.wait_for_selector(".steps .where:text('step 5')")
    page.wait_for_selector("#samples .sample .answer")
    asked = [url.partition("/samples?")[2] for url in opened.requests if "/samples?" in url]
    assert asked == ["stage=grpo&step=10", "stage=grpo&step=5"], "a step is read when it is looked at"
    page.get_by_label("find in samples").fill("nowhere")
    page.keyboard.press("Enter")
    page.wait_for_selector(".found:text('in 0 of 2 steps')")
    page.locator("nav").get_by_role("link", name="Chat").click()
    page.wait_for_selector(".welcome h1")


def test_runs_are_compared_on_the_same_charts(visit: Any, pages: Any) -> None:
    page = visit("/runs").page
    page.get_by_label("compare one").check()
    assert page.locator("button.compare").is_disabled()
    page.get_by_label("compare two").check()
    page.locator("button.compare").click()
    page.wait_for_selector("#chart-grpo-reward .legend")
    legends = page.locator("#chart-grpo-reward .legend li").all_inner_texts()
    assert [text.split() for text in legends] == [["one", "0.25"], ["two", "0.75"]]
    assert page.locator("#chart-grpo-reward svg .curve, #chart-grpo-reward svg .dot").count() >= 2
    page.get_by_role("table").get_by_role("link", name="two").click()
    page.wait_for_selector("h1:text('small')")
