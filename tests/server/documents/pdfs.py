"""PDFs for tests, written by hand: a catalogue, a font, and a page for each string of operators."""

from __future__ import annotations

import io
import zlib
from typing import Any

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding << /Differences [ 1 /fi /fl ] >> >>"


def operators(*lines: str) -> bytes:
    """Lines of text below each other; \\001 and \\002 are the ligatures fi and fl."""
    escaped = (line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in lines)
    shown = " ".join(f"({line}) Tj 0 -14 Td" for line in escaped)
    return f"BT /F1 12 Tf 10 700 Td {shown} ET".encode("latin-1")


def pdf(*pages: bytes, repeat: int = 1) -> bytes:
    """A PDF with a page for each of these; with `repeat`, each of them so often, all from one stream."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * (number // repeat)) for number in range(len(pages) * repeat))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [ %s ] /Count %d >>" % (kids, len(pages) * repeat),
        _FONT,
    ]
    for number, page in enumerate(pages):
        packed = zlib.compress(page)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [ 0 0 595 842 ] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * number)
        )
        objects.append(
            b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(packed), packed)
        )
    return _written(objects)


def _written(objects: list[bytes]) -> bytes:
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    return bytes(out) + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


def text_pdf(*pages: tuple[str, ...]) -> bytes:
    """A PDF with these lines on its pages."""
    return pdf(*(operators(*lines) for lines in pages))


def encrypted_pdf() -> bytes:
    """One that asks for a password."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(text_pdf(("Secret words.",)))))
    writer.encrypt("password", algorithm="RC4-128")
    out: Any = io.BytesIO()
    writer.write(out)
    return bytes(out.getvalue())


def scanned_pdf() -> bytes:
    """Lines and areas, as a picture of a page has them, and no text."""
    return pdf(b"0 0 595 842 re f", b"10 10 m 100 100 l S")


def endless_pdf() -> bytes:
    """40 KB that take pypdf an hour: a page just below its bounds, a thousand times."""
    return pdf(b"BT /F1 12 Tf " + b"() Tj " * 900_000 + b" ET", repeat=900)
