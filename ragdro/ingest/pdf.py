"""PDF: the text layer, page by page. What was scanned has none; it is refused or, page by page, named."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ragdro.ingest.decode import plain
from ragdro.ingest.document import Document, ReadOptions, Remarks, TextBuilder, UnreadableError

if TYPE_CHECKING:
    from pypdf import PdfReader

_NO_TITLE = ("", "untitled", "none")


def read_pdf(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """The file as one document, in which each page's start is known."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of every small fault that it mends
    with path.open("rb") as file:
        reader = PdfReader(file)
        _open(reader)
        built, breaks, blank = TextBuilder(), [], []
        for number, page in enumerate(reader.pages, start=1):
            breaks.append(built.length)
            before = built.length
            built.add(plain(page.extract_text()), end="\n")
            if built.length == before:
                blank.append(number)
        if not built.length:
            raise UnreadableError(
                f"has no text layer (a scan? pages: {len(breaks)}): "
                "recognise its text first, as `ocrmypdf IN.pdf OUT.pdf` does"
            )
        if blank:
            named = ", ".join(map(str, blank[:5])) + (", …" if len(blank) > 5 else "")
            remarks.notes.append(f"pages without text (scanned, or blank): {named}")
        yield Document(built.text, _title(reader), numbering="page", breaks=tuple(breaks))


def _open(reader: PdfReader) -> None:
    """Opens what needs no password. Raises UnreadableError for what does."""
    from pypdf.errors import DependencyError, PyPdfError

    if not reader.is_encrypted:
        return
    refused = UnreadableError(
        "is encrypted: save it without a password, as `qpdf --decrypt --password=… IN.pdf OUT.pdf` does"
    )
    try:
        opened = reader.decrypt("")
    except (DependencyError, PyPdfError, NotImplementedError) as error:
        raise refused from error
    if not opened:
        raise refused


def _title(reader: PdfReader) -> str:
    information = reader.metadata
    title = None if information is None else information.title
    words = " ".join(plain(str(title or "")).split()).removeprefix("Microsoft Word - ")
    return "" if words.casefold() in _NO_TITLE else words
