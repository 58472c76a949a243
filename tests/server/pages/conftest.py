"""A server whose history is full of attacks and whose folder has two runs, and pages of it in headless Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import launched
from tests.server.pages.browsing import Chat, apart, poison
from tests.server.pages.test_runs import write_run


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("talks") / "talks.sqlite"


@pytest.fixture(scope="module")
def pages(
    start_server: Any, caller_directory: Path, talks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A server of its own; a conversation full of attacks is in its file before it starts."""
    apart(poison(talks))
    runs = tmp_path_factory.mktemp("runs")
    write_run(runs / "one", steps=(5, 10))
    write_run(runs / "two", reward=0.75)
    return start_server([("caller", caller_directory)], conversations=str(talks), runs=str(runs))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with launched() as running:
        yield running


@pytest.fixture
def visit(chromium: Any, pages: Any) -> Iterator[Callable[..., Chat]]:
    """visit(path): a page of a fresh browser; in the end nothing has gone wrong in it or left the server."""
    contexts, visited = [], []

    def go(path: str = "/", **settings: Any) -> Chat:
        context = chromium.new_context(viewport={"width": 1200, "height": 800}, **settings)
        context.set_default_timeout(20_000)
        opened = Chat(context.new_page())
        contexts.append(context)
        visited.append(opened)
        opened.page.goto(pages.url + path)
        opened.page.wait_for_selector("h1, .replied")
        return opened

    yield go
    for opened in visited:
        assert opened.complaints == []
        assert [url for url in opened.requests if not url.startswith((pages.url, "data:"))] == []
    for context in contexts:
        context.close()
