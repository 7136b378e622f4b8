"""Documents where questions or a corpus are expected: what each is, and what makes a corpus of it."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

INGEST = "make a corpus of it: ragdro ingest {file} --out corpus.jsonl"
READ = "what is read: JSON lines, a JSON list, CSV, TSV, Parquet, Arrow"
ZIP = b"PK\x03\x04"
"""The first bytes of a zip archive, which Office documents are."""

_TEXTS = (".txt", ".text", ".rst", ".md", ".markdown", ".html", ".htm", ".xhtml")
_OFFICE = {
    "word/": f"a Word document; {INGEST}",
    "ppt/": f"a PowerPoint document; {INGEST}",
    "xl/": "an Excel workbook; write its first sheet as CSV: libreoffice --headless --convert-to csv {file}",
}


def advice(source: object) -> str | None:
    """What to do with a text or a page that holds no records; None where its name does not say it is one."""
    if Path(str(source)).suffix.lower() not in _TEXTS:
        return None
    return f"if it is a document, {INGEST.format(file=shlex.quote(str(source)))}"


def zipped(path: Path) -> str:
    """What a zip archive is, and what to do with it."""
    quoted = shlex.quote(str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "a damaged zip archive; get the file again"
    for folder, what in _OFFICE.items():
        if any(name.startswith(folder) for name in names):
            return what.format(file=quoted)
    return f"a zip archive; unpack it: unzip {quoted}"
