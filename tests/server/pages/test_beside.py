"""Two models asked the same: sibling branches that stand side by side until one of them is gone on with."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from farthing.server.pages.trained import TrainedTasks
from farthing.tasks.tasksets.arithmetic import Arithmetic
from tests.chromium import needs_chromium
from tests.server.conftest import make_caller, make_model
from tests.server.pages.browsing import Chat, apart, open_talk
from tests.server.pages.test_history import change, finished, make, reply, say, whole

NAMES = ("one", "two", "gone")
BOTH = {"model": "one", "beside": "two"}


@pytest.fixture(scope="module")
def pages(start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three models: two that are there, and one that was there when the server started."""
    folder = tmp_path_factory.mktemp("served")
    models = [(name, make_model(folder / name, make_caller(), seed=seed)) for seed, name in enumerate(NAMES)]
    running = start_server(models, keep_alive=float("inf"))
    (folder / "gone" / "model.safetensors").unlink()
    for name in NAMES[:2]:
        running.chat(model=name, max_tokens=1)
    return running


def test_replies_of_two_models_are_siblings_and_neither_is_looked_at(server: Any) -> None:
    talk = make(server, model="tiny", beside="caller", max_tokens=6, temperature=1.0)
    said = say(server, talk, "the same")
    begun = [
        reply(server, talk, parent=said["id"], model=name, seed=7, beside=True) for name in ("tiny", "caller")
    ]
    ended = [finished(server, one["id"]) for one in begun]
    assert [one["details"]["model"] for one in ended] == ["tiny", "caller"]
    assert [(one["parent"], one["details"]["seed"]) for one in ended] == [(said["id"], "7")] * 2
    found = whole(server, talk)
    assert (found["leaf"], found["settings"]["beside"]) == (said["id"], "caller")
    chosen = finished(server, reply(server, talk, parent=said["id"])["id"])
    assert (chosen["details"]["model"], whole(server, talk)["leaf"]) == ("tiny", chosen["id"])


def test_an_export_holds_both_and_an_import_shows_them_as_they_stood(server: Any) -> None:
    talk = make(server, model="tiny", beside="caller", max_tokens=4)
    said = say(server, talk, "the same")
    for name in ("caller", "tiny", "caller"):
        last = finished(server, reply(server, talk, parent=said["id"], model=name, beside=True)["id"])
    file = server.get(f"/api/conversations/{talk}/export?form=json").json()
    taken = server.post("/api/imports", file).json()
    assert len(taken["messages"]) == 4 and taken["leaf"] == taken["messages"][0]["id"]
    assert taken["settings"]["beside"] == "caller"
    exported = f"/api/conversations/{talk}/export?form=markdown"
    headings = [line for line in server.get(exported).text.splitlines() if line.startswith("## ")]
    assert headings == ["## You", "## Model (caller)", "## Model (tiny)"], "the newest reply of each"
    change(server, talk, {"leaf": last["id"]})
    assert server.get(exported).text.count("## Model") == 1


def test_a_model_that_is_not_served_is_refused_and_nothing_was_begun(server: Any) -> None:
    talk = make(server)
    said = say(server, talk, "hi")
    asked = {"parent": said["id"], "model": "nobody", "beside": True}
    assert server.post(f"/api/conversations/{talk}/replies", asked).status_code == 404
    assert len(whole(server, talk)["messages"]) == 1


def test_examples_of_one_model_are_the_same_problems_to_another_of_that_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a task that cannot tell a problem from its words, such as those of reasoning-gym."""
    monkeypatch.setattr(Arithmetic, "read", lambda self, line: None)
    card = {"task": {"name": "arithmetic", "settings": {}}}
    tasks = TrainedTasks()
    first, second = (apart(tasks.of(SimpleNamespace(number=n, card=card))) for n in range(2))  # type: ignore[arg-type]
    for text in apart(first.examples()):
        assert second.problem(text) == first.problem(text) is not None
        assert second.messages(text) == first.messages(text)


def columns(opened: Chat) -> list[str]:
    return [str(text) for text in opened.page.locator(".beside h2").all_inner_texts()]


@needs_chromium
def test_both_write_at_once_are_stopped_apart_and_one_is_gone_on_with(visit: Any, pages: Any) -> None:
    opened = open_talk(visit, pages, **BOTH, temperature=1.0)
    page = opened.page
    with pages.frozen():
        opened.send("the same")
        page.wait_for_function("() => document.querySelectorAll('.beside .thinking.running').length === 2")
        left, right = (page.locator(".beside section").nth(n).bounding_box() for n in range(2))
        assert left["y"] == right["y"] and left["x"] + left["width"] < right["x"]
        page.get_by_role("button", name="Stop one").click()
        page.wait_for_selector(".beside section[aria-label=one] .cut:text('Stopped.')")
        assert page.locator(".beside section[aria-label=two] [aria-busy=true]").count() == 1
        page.reload()
        page.wait_for_selector(".beside section[aria-label=two] .thinking.running")
    opened.settled(2)
    assert columns(opened) == ["one", "two"]
    page.locator("section[aria-label=two]").get_by_role("button", name="Go on with this one").click()
    page.wait_for_selector(".branches:has-text('2 of 2')")
    assert page.locator(".numbers").inner_text().endswith("two")
    assert page.evaluate("document.activeElement.id") == "message"
    page.get_by_label("Previous version").click()
    page.wait_for_selector(".branches:has-text('1 of 2')")
    page.get_by_role("button", name="Side by side").click()
    opened.settled(2)
    assert columns(opened) == ["one", "two"]


@needs_chromium
def test_with_neither_chosen_the_first_is_gone_on_with(visit: Any, pages: Any) -> None:
    opened = open_talk(visit, pages, **BOTH, max_tokens=8, budget=4)
    page = opened.page
    opened.send("the same")
    opened.settled(2)
    opened.send("and then")
    page.wait_for_selector(".branches:has-text('1 of 2')")
    opened.settled(3)
    assert page.locator(".numbers").first.inner_text().endswith("one")
    seeds = {m["details"]["seed"] for m in whole(pages, page.url.rpartition("/")[2])["messages"][1:3]}
    assert len(seeds) == 1, "they differ by their models alone"
    page.get_by_role("button", name="Ask one alone").click()
    with pages.frozen():
        page.locator("section[aria-label=two]").get_by_role("button", name="Regenerate").click()
        page.wait_for_selector("section[aria-label=two] [aria-busy=true]")
    opened.settled(3)
    written = [m["details"].get("model") for m in whole(pages, page.url.rpartition("/")[2])["messages"]]
    assert written == [None, "one", "two", None, "one", "two", "two"]
    assert columns(opened) == ["one", "two"]


@needs_chromium
def test_a_model_that_cannot_be_loaded_does_not_hurt_the_other(visit: Any, pages: Any) -> None:
    opened = open_talk(visit, pages, model="gone", beside="one", max_tokens=8, budget=4)
    opened.send("the same")
    opened.settled(2)
    assert "Interrupted" in opened.page.locator("section[aria-label=gone] .cut").inner_text()
    assert "context" in opened.page.locator("section[aria-label=one] .numbers").inner_text()


@needs_chromium
def test_the_second_model_is_chosen_by_keyboard_and_stands_below_on_a_phone(visit: Any, pages: Any) -> None:
    opened = visit("/", color_scheme="dark")
    page = opened.page
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_role("button", name="Options").press("Enter")
    page.get_by_label("Beside it").press("t")
    page.wait_for_selector(".both:has-text('Asks one and two')")
    page.get_by_label("Longest reply").fill("8")
    page.get_by_role("button", name="Options").press("Enter")
    opened.send("the same")
    opened.settled(2)
    first, second = (page.locator(".beside section").nth(n).bounding_box() for n in range(2))
    assert first["x"] == second["x"] and first["y"] + first["height"] < second["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
