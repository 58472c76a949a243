"""The report of a run as one HTML file that asks nothing of anybody: no network, no font, no other file.

What models wrote is untrusted, so three things stand between it and the browser's interpreter: it travels as JSON in
a data block that cannot be closed from inside, the scripts put it on the page as text only, and the content security
policy names the page's own script and style by hash and allows nothing else (Trusted Types included).
"""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from farthing.report.gather import gather
from farthing.runs.files import finite, write_atomic

STYLES = ("palette.css", "base.css", "charts.css", "samples.css", "tables.css", "print.css")
SCRIPTS = ("dom.js", "format.js", "scale.js", "chart.js", "hover.js", "curves.js", "marks.js", "samples.js",
           "reader.js", "tables.js", "problems.js", "header.js", "page.js")  # fmt: skip
# The last scripts begin: with the document in the file, or with what a server has to say.
IN_A_FILE, LIVE = ("main.js",), ("compare.js", "live.js")
DEFAULT_NAME = "report.html"


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Write the page of a run, by default into its directory, and return where.

    Works at every moment of a run's life, failed and torn ones included; raises RunError where there is no such
    directory or the page cannot be written.
    """
    target = Path(out) if out is not None else Path(run_dir) / DEFAULT_NAME
    write_atomic(target, render(gather(run_dir)), durable=False)
    return target


def render(document: dict[str, Any]) -> str:
    """The page of a document made by `gather`."""
    style, script = bundle(STYLES), bundle((*SCRIPTS, *IN_A_FILE), wrap=True)
    title = escape_html(f"{document['name']} · farthing")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main id="report"><noscript>This page draws its charts with the script it carries; please allow it.</noscript></main>
<script type="application/json" id="document">{embed(document)}</script>
<script>{script}</script>
</body>
</html>
"""


def live_page(style: str, script: str) -> str:
    """The page of runs as a server gives it: `style` and `script` are where it has their files."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>Runs · farthing</title>
<link rel="stylesheet" href="{style}">
<script src="{script}" defer></script>
</head>
<body>
<main id="report"><noscript>This page draws its charts with a script; please allow it.</noscript></main>
</body>
</html>
"""


def embed(document: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or begin a comment.

    Everything beyond ASCII is escaped too, which takes care of U+2028, of U+2029 and of half surrogate pairs.
    """
    try:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError:  # a NaN, which JSON has no word for
        text = json.dumps(finite(document), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def escape_html(text: str) -> str:
    """Text for an element or a quoted attribute; what no HTML file may contain becomes U+FFFD."""
    clean = text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", "\ufffd")
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        clean = clean.replace(character, entity)
    return clean


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this one style and this one script."""
    return "; ".join((
        "default-src 'none'",
        f"style-src '{source_hash(style)}'",
        f"script-src '{source_hash(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ))  # fmt: skip


def source_hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@cache
def bundle(names: tuple[str, ...], wrap: bool = False) -> str:
    """The named files of static/ as one text; scripts are wrapped so that they leave no global behind."""
    folder = files("farthing.report") / "static"
    source = "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
    return f'"use strict";\n(() => {{\n{source}}})();\n' if wrap else source
