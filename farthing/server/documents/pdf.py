"""The text of a PDF, read in a process of its own, since a PDF may take any time and any memory:

    python -m farthing.server.documents.pdf PAGES BYTES SECONDS MEMORY < file.pdf

writes one JSON object: {"text": .., "blank": pages without text} or {"refused": what is wrong, in a few words}. Pages
are separated by form feeds, as pdftotext separates them.

What a PDF has of typesetting is undone, so that a passage can be found and quoted as it reads: ligatures are letters,
words that were divided at the end of a line are whole.
"""

from __future__ import annotations

import io
import json
import re
import resource
import sys
import unicodedata
from typing import Any

from pypdf import PdfReader

from farthing.server.documents.passages import PAGE_BREAK
from farthing.tasks.worker import limit_memory

_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
_UNPRINTABLE = re.compile("[^\\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_SOFT_HYPHEN = re.compile("\u00ad(?:[ \t]*\n[ \t]*)?")
# Both sides are bounded: a page may be one run of a million letters.
_DIVIDED = re.compile(r"(?<![^\W\d_])([^\W\d_]{1,40})[-\u2010][ \t]*\n[ \t]*([^\W\d_]{1,40})(?![^\W\d_])")
_COMPOUND = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)?")


class Refused(Exception):
    """Nothing can be read here, and why."""


def text_of(data: bytes, most_pages: int, most_bytes: int) -> dict[str, Any]:
    """{"text", "blank"} of the PDF in `data`. Raises Refused."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            raise Refused("it is encrypted; save it without a password first")
        count = len(reader.pages)
    except (Refused, MemoryError):
        raise
    except Exception as problem:  # a damaged file may end the reader in any way
        raise Refused("it is damaged") from problem
    if count > most_pages:
        raise Refused(f"it has {count:,} pages; at most {most_pages:,}")
    pages, size, failed = [], 0, 0
    for number in range(count):
        try:
            page = cleaned(reader.pages[number].extract_text())
        except MemoryError:
            raise
        except (
            Exception
        ):  # so may one of its pages; the others are read, and it is counted among the blank ones
            page, failed = "", failed + 1
        size += len(page.encode())
        if size > most_bytes:
            raise Refused(f"its text has more than {most_bytes:,} bytes; split it")
        pages.append(page)
    blank = sum(not page for page in pages)
    if blank == count:
        if failed:
            raise Refused("its pages are damaged, or larger than a page should be")
        raise Refused("there is no text in it; a scan needs text recognition (OCR) first")
    return {"text": rejoined(PAGE_BREAK.join(pages)), "blank": blank}


def cleaned(page: str) -> str:
    """The text of one page without ligatures, soft hyphens, and characters that no text has."""
    text = page.replace("\r\n", "\n").replace("\r", "\n").replace(PAGE_BREAK, "\n").translate(_LIGATURES)
    text = _UNPRINTABLE.sub(lambda match: " " if match[0].isspace() else "", text)
    return "\n".join(line.rstrip() for line in _SOFT_HYPHEN.sub("", text).split("\n")).strip()


def rejoined(text: str) -> str:
    """Words that were divided at the end of a line, whole again.

    A hyphen at the end of a line may also belong to its word. It does where the text has the word with it elsewhere,
    and not without it.
    """
    words = set(map(str.casefold, _COMPOUND.findall(text)))

    def joined(match: re.Match[str]) -> str:
        left, right = match[1], match[2]
        if not right[0].islower():
            return match[0]
        compound, whole = f"{left}-{right}", left + right
        keep = compound.casefold() in words and whole.casefold() not in words
        return compound if keep else whole

    return _DIVIDED.sub(joined, text)


def main(arguments: list[str]) -> None:
    """What stands on standard input, as JSON on standard output."""
    most_pages, most_bytes, seconds, memory = map(int, arguments)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whoever waits keeps the time; this is for when nobody is left who could.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    limit_memory(memory)
    try:
        found = text_of(sys.stdin.buffer.read(), most_pages, most_bytes)
    except Refused as problem:
        found = {"refused": str(problem)}
    except MemoryError:
        found = {"refused": f"reading it takes more than {memory >> 20} MiB of memory"}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
