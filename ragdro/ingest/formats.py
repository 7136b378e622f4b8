"""Which reader a file's suffix means, and which libraries the readers need."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ragdro.errors import ConfigError
from ragdro.ingest import html, office, pdf, rows, text
from ragdro.ingest.document import Document, Reader, ReadOptions, Remarks, UnreadableError


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A kind of file: its suffixes, its reader, and the module and package that read it ("" for none)."""

    name: str
    suffixes: tuple[str, ...]
    read: Reader
    module: str = ""
    package: str = ""
    in_memory: bool = True


FORMATS = (
    FileFormat("text", (".txt", ".text", ".rst"), text.read_text, "charset_normalizer", "charset-normalizer"),
    FileFormat("markdown", (".md", ".markdown"), text.read_markdown, "markdown_it", "markdown-it-py"),
    FileFormat("html", (".html", ".htm", ".xhtml"), html.read_html, "selectolax", "selectolax"),
    FileFormat("pdf", (".pdf",), pdf.read_pdf, "pypdf", "pypdf"),
    FileFormat("docx", (".docx",), office.read_docx, "docx", "python-docx"),
    FileFormat("pptx", (".pptx",), office.read_pptx, "pptx", "python-pptx"),
    FileFormat("csv", (".csv", ".tsv"), rows.read_csv, in_memory=False),
    FileFormat("parquet", (".parquet",), rows.read_parquet, "pyarrow", "pyarrow", in_memory=False),
    FileFormat("jsonl", (".jsonl", ".ndjson"), rows.read_jsonl, in_memory=False),
)
BY_SUFFIX = {suffix: file_format for file_format in FORMATS for suffix in file_format.suffixes}

LARGEST_IN_MEMORY = 256 * 2**20
"""The longest file that is read whole, in bytes. Tables are read row by row and may be of any length."""

_OLD_OFFICE = b"\xd0\xcf\x11\xe0"
"""How Office files begin that are encrypted, and those of before 2007."""


def format_of(path: Path) -> FileFormat | None:
    """The format that the suffix means; None for one that is not read."""
    return BY_SUFFIX.get(path.suffix.casefold())


def require_libraries(formats: Iterable[FileFormat]) -> None:
    """Raises ConfigError for a library that is not there and that the formats, or the cutting, need."""
    needed = {"semantic_text_splitter": "cutting into passages", "charset_normalizer": "guessing encodings"}
    needed |= {
        file_format.module: f"reading {file_format.suffixes[0]} files"
        for file_format in formats
        if file_format.module
    }
    for module, use in needed.items():
        if find_spec(module) is None:
            raise ConfigError(f"{use} needs {module}, which is not installed: pip install 'ragdro[ingest]'")


@cache
def library_version(package: str) -> str:
    """The version of an installed package; empty where there is none."""
    try:
        return version(package) if package else ""
    except PackageNotFoundError:
        return ""


def read_documents(
    path: Path, file_format: FileFormat, options: ReadOptions, remarks: Remarks
) -> Iterator[Document]:
    """The documents of a file.

    Raises UnreadableError for a file that is empty, damaged or too long, OSError where it cannot be opened.
    """
    size = path.stat().st_size
    if size == 0:
        raise UnreadableError("is empty")
    if file_format.in_memory and size > LARGEST_IN_MEMORY:
        most = LARGEST_IN_MEMORY // 2**20
        raise UnreadableError(f"is longer than {most} MiB: split it, or make a .jsonl of it")
    if file_format.name in ("docx", "pptx"):
        with path.open("rb") as file:
            if file.read(len(_OLD_OFFICE)) == _OLD_OFFICE:
                raise UnreadableError(
                    f"is encrypted, or of the time before .{file_format.name}: "
                    f"save it as .{file_format.name} without a password"
                )
    damaged = (*_DAMAGED, *_package_errors(file_format))
    try:
        yield from file_format.read(path, options, remarks)
    except damaged as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise UnreadableError(
            f"is no whole {file_format.name} file ({reason}): open and save it again"
        ) from error


# What the libraries raise on files that break their format: they check some rules of it and trip over others.
_DAMAGED: tuple[type[Exception], ...] = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError),
    *(EOFError, RecursionError, NotImplementedError, struct.error, zlib.error, zipfile.BadZipFile),
)
_ERRORS = {
    "pdf": ("pypdf.errors", ("PyPdfError", "DependencyError")),
    "docx": ("docx.opc.exceptions", ("OpcError",)),
    "pptx": ("pptx.exc", ("PythonPptxError",)),
}


def _package_errors(file_format: FileFormat) -> tuple[type[Exception], ...]:
    if file_format.name not in _ERRORS:
        return ()
    module, names = _ERRORS[file_format.name]
    errors = tuple(getattr(import_module(module), name) for name in names)
    if file_format.name in ("docx", "pptx"):
        from lxml.etree import LxmlError

        errors = (*errors, LxmlError)
    return errors
