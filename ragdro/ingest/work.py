"""One file → its corpus lines, kept in the cache: what a worker process does.

The lines of a file go to `cache/ab/abcdef….zst`, named by a hash of its content, its name and the settings,
and written whole or not at all. The last line says what the reader remarked.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import orjson
import zstandard

from ragdro.access import refused
from ragdro.data.convert import passage_object
from ragdro.errors import DataError
from ragdro.files import atomic_path
from ragdro.ingest.cut import CountTokens, Cutter, count_words, token_counter
from ragdro.ingest.document import ReadOptions, Remarks, UnreadableError
from ragdro.ingest.formats import library_version, read_documents
from ragdro.ingest.listing import InputFile

FORMAT = 3
"""Raised whenever the same file and settings give other lines than before."""

_REMARKED = b"# "
"""How an entry's last line begins; no JSON does."""

_CUTTING = ("semantic-text-splitter", "charset-normalizer")


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """What the lines of a file depend on beside the file; `tokenizer` is a tokenizer.json's content."""

    tokens: int
    overlap: int
    tokenizer: str | None
    options: ReadOptions


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of a file: its entry in the cache, or why there is none (`reason`)."""

    name: str
    entry: Path | None
    passages: int = 0
    problems: tuple[str, ...] = ()
    more_problems: int = 0
    notes: tuple[str, ...] = ()
    reason: str = ""
    reused: bool = False


class FileWorker:
    """Reads and cuts files into a cache folder. Made once a process."""

    def __init__(self, settings: WorkSettings, cache: Path) -> None:
        described = settings.tokenizer
        count: CountTokens = count_words if described is None else token_counter(described)
        counted_by = "words" if described is None else hashlib.sha256(described.encode()).hexdigest()
        self.cache = cache
        self.options = settings.options
        self.cutter = Cutter(settings.tokens, settings.overlap, count)
        versions = [library_version(package) for package in _CUTTING]
        self.fixed = [FORMAT, settings.tokens, settings.overlap, counted_by, settings.options, versions]

    def process(self, file: InputFile) -> FileResult:
        """The file's entry, made now if it is not there; DataError where the cache cannot be written."""
        try:
            entry = self._entry(file)
        except OSError as error:
            return FileResult(file.name, None, reason=_cannot_be_read(error))
        remarked = _remarked_in(entry)
        if remarked is not None:
            return _result(file.name, remarked, entry, reused=True)
        remarks = Remarks()
        try:
            remarked = self._write(file, entry, remarks)
        except UnreadableError as error:
            return FileResult(file.name, None, reason=str(error))
        return _result(file.name, remarked, entry, reused=False)

    def _entry(self, file: InputFile) -> Path:
        with file.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        known = [*self.fixed, digest, file.name, file.format.name, library_version(file.format.package)]
        key = hashlib.sha256(orjson.dumps(known)).hexdigest()[:40]
        return self.cache / key[:2] / f"{key}.zst"

    def _write(self, file: InputFile, entry: Path, remarks: Remarks) -> bytes:
        """Writes the entry; gives its last line."""
        lines = self._lines(file, remarks)
        first = next(lines, None)  # before anything is written: most bad files are refused here
        if first is None:
            said = "; ".join((*remarks.problems, *remarks.notes))
            raise UnreadableError(f"holds no text{f' ({said})' if said else ''}")
        try:
            entry.parent.mkdir(exist_ok=True)
            with atomic_path(entry, durable=False) as partial:
                remarked = _pack(chain([first], lines), partial, remarks)
        except OSError as error:
            raise DataError(
                f"cannot be written: {refused(error, self.cache)}: files that are done are not read again",
                path=self.cache,
            ) from error
        return remarked

    def _lines(self, file: InputFile, remarks: Remarks) -> Iterator[bytes]:
        try:
            for document in read_documents(file.path, file.format, self.options, remarks):
                for passage in self.cutter.passages(document, file.name):
                    yield orjson.dumps(passage_object(passage)) + b"\n"
        except OSError as error:
            raise UnreadableError(_cannot_be_read(error)) from error


def entry_lines(entry: Path) -> Iterator[bytes]:
    """The corpus lines of a cache entry."""
    held: bytes | None = None
    with entry.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as unpacked:
        for line in io.BufferedReader(unpacked):  # type: ignore[type-var]
            if held is not None:
                yield held
            held = line


def _remarked_in(entry: Path) -> bytes | None:
    """The last line of an entry; None where there is no whole one (a power failure may cut it short)."""
    line = b""
    try:
        with entry.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as unpacked:
            for line in io.BufferedReader(unpacked):  # type: ignore[type-var]  # noqa: B007
                pass
    except (FileNotFoundError, zstandard.ZstdError):
        return None
    return line if line.startswith(_REMARKED) and line.endswith(b"\n") else None


def _pack(lines: Iterator[bytes], path: Path, remarks: Remarks) -> bytes:
    """Writes an entry; gives its last line."""
    count = 0
    with (
        path.open("wb") as raw,
        zstandard.ZstdCompressor(write_checksum=True).stream_writer(raw) as packed,
    ):
        for line in lines:
            packed.write(line)
            count += 1
        remarked = _remarked(count, remarks)  # after the last line: the reader remarks to the end
        packed.write(remarked)
    return remarked


def _remarked(count: int, remarks: Remarks) -> bytes:
    kept = {"problems": remarks.problems, "more_problems": remarks.more_problems, "notes": remarks.notes}
    return _REMARKED + orjson.dumps({"passages": count, **kept}) + b"\n"


def _result(name: str, remarked: bytes, entry: Path, *, reused: bool) -> FileResult:
    values = orjson.loads(remarked.removeprefix(_REMARKED))
    return FileResult(
        name,
        entry,
        passages=values["passages"],
        problems=tuple(values["problems"]),
        more_problems=values["more_problems"],
        notes=tuple(values["notes"]),
        reused=reused,
    )


def _cannot_be_read(error: OSError) -> str:
    return f"cannot be read: {refused(error)}"
