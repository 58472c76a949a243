"""A headless Chromium for the tests of pages, and pages that remember what they complained about."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from farthing.report.picture import browser as installed_browser

_THERE = {"chromium": installed_browser(), "playwright": importlib.util.find_spec("playwright")}
_MISSING = [name for name, there in _THERE.items() if not there]
needs_chromium = pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """The browser that is installed, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=installed_browser(), args=FLAGS)
        yield running
        running.close()


@dataclass
class Opened:
    """A page, and everything it complained about, asked for or tried to open."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())
