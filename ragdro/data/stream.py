"""Bytes on disk → records: plain, gzip or zstandard files, one JSON object a line or one JSON list.

Compression and layout are recognised from the first bytes, never from the name. Memory stays flat: a
file is read in chunks and cut into records, and no record may be longer than `MAX_RECORD_BYTES`.
Every failure is a `DataError` that names the file and, where there is one, the line.
"""

from __future__ import annotations

import gzip
import re
import shlex
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import zstandard

from ragdro.access import absent, recoded, refused
from ragdro.errors import DataError

Compression: TypeAlias = Literal["none", "gzip", "zstd"]
NumberedBytes: TypeAlias = tuple[int, bytes]
"""A record's first line (counted from 1) and its bytes."""

MAX_RECORD_BYTES = 64 * 2**20
"""The longest record that is read, in bytes; far above any real one, far below what memory can hold."""

_CHUNK_BYTES = 2**20
_ZSTD_INPUT_BYTES = 2**12  # a zstandard block unpacks to as much as 128 KiB from 4 bytes: feed it little
_VISIBLE = re.compile(rb"[^ \t\r\n]")
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)


def _checked_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise DataError(absent(path), path=path)
    if path.is_dir():
        raise DataError(f"is a folder; name a file in it: ls {shlex.quote(str(path))}", path=path)
    raise DataError("is not a regular file; write what it gives to one: cat IT > FILE", path=path)


@contextmanager
def _refusing_io_errors(path: Path) -> Iterator[None]:
    """Turns what the operating system and the decompressors raise into one line of our own."""
    try:
        yield
    except EOFError as error:
        raise DataError(
            "the gzip stream ends early (truncated file): get the file again", path=path
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"damaged gzip stream: {error}; get the file again", path=path) from error
    except zstandard.ZstdError as error:
        raise DataError(f"damaged zstandard stream: {error}; get the file again", path=path) from error
    except OSError as error:
        raise DataError(f"cannot be read: {refused(error, path)}", path=path) from error


def compression_of(path: Path) -> Compression:
    """What `path` is compressed with, by its magic bytes. Raises DataError if it cannot be read."""
    _checked_file(path)
    with _refusing_io_errors(path), path.open("rb") as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    return "zstd" if head == b"\x28\xb5\x2f\xfd" else "none"


def first_bytes(path: Path, count: int = 16) -> bytes:
    """The first decompressed bytes of a file, UTF-16 or binary ones too. Raises DataError."""
    compression = compression_of(path)
    with _refusing_io_errors(path):
        pieces = _zstd_chunks(path) if compression == "zstd" else _plain_chunks(path, compression)
        return next(pieces, b"")[:count]


def _plain_chunks(path: Path, compression: Compression) -> Iterator[bytes]:
    with gzip.open(path, "rb") if compression == "gzip" else path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            yield piece


def _zstd_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        frame = zstandard.ZstdDecompressor().decompressobj()
        started = False
        while data := file.read(_ZSTD_INPUT_BYTES):
            while data:
                started = True
                out = frame.decompress(data)
                if out:
                    yield out
                data = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame, started = zstandard.ZstdDecompressor().decompressobj(), False
        if started:
            raise DataError("the zstandard stream ends early (truncated file): get the file again", path=path)


def chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a file, in pieces of about 1 MiB; a UTF-8 byte order mark is dropped.

    Raises DataError for a file that is missing, unreadable, damaged, truncated or UTF-16.
    """
    compression = compression_of(path)
    with _refusing_io_errors(path):
        pieces = _zstd_chunks(path) if compression == "zstd" else _plain_chunks(path, compression)
        first = True
        for piece in pieces:
            if first:
                if piece[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise DataError(f"is UTF-16; {recoded(path, 'utf-16')}", path=path, line=1)
                piece = piece.removeprefix(b"\xef\xbb\xbf")
                first = False
            yield piece


def _too_long(path: Path, line: int) -> DataError:
    return DataError(f"record longer than {MAX_RECORD_BYTES // 2**20} MiB", path=path, line=line)


def lines(path: Path) -> Iterator[NumberedBytes]:
    """The lines of a file that are not blank, each with its number. Raises as `chunks` does."""
    number = 1
    rest: list[bytes] = []  # pieces of a line that is not yet complete
    held = 0
    for piece in chunks(path):
        parts = piece.split(b"\n")
        for part in parts[:-1]:
            line = part if not rest else b"".join([*rest, part])
            if len(line) > MAX_RECORD_BYTES:
                raise _too_long(path, number)
            rest, held = [], 0
            if line and not line.isspace():
                yield number, line
            number += 1
        if parts[-1]:
            rest.append(parts[-1])
            held += len(parts[-1])
            if held > MAX_RECORD_BYTES:
                raise _too_long(path, number)
    last = b"".join(rest)
    if last and not last.isspace():
        yield number, last


class _ListCutter:
    """Cuts one JSON list into the bytes of its elements without holding more than one chunk and one
    element: `position` is how far the buffer is used up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pieces = chunks(path)
        self.buffer = b""
        self.position = 0
        self.line = 1  # line number at `position`

    def more(self) -> bool:
        """Drops what is used up and appends the next chunk; False at the end of the file."""
        piece = next(self.pieces, b"")
        self.buffer = self.buffer[self.position :] + piece
        self.position = 0
        if len(self.buffer) > MAX_RECORD_BYTES + len(piece):
            raise _too_long(self.path, self.line)
        return bool(piece)

    def move(self, to: int) -> None:
        """Uses the buffer up to `to`."""
        self.line += self.buffer.count(b"\n", self.position, to)
        self.position = to

    def skip_space(self) -> None:
        """Moves to the next byte that is not white space, or to the end of the file."""
        while True:
            match = _VISIBLE.search(self.buffer, self.position)
            self.move(len(self.buffer) if match is None else match.start())
            if match is not None or not self.more():
                return

    def element(self) -> tuple[NumberedBytes, bytes]:
        """The next element and the `,` or `]` that ends it; `position` is at its first byte."""
        depth, ahead = 0, 0  # `ahead`: how far from `position` the element is looked through
        while True:
            match = _STRUCTURE.search(self.buffer, self.position + ahead)
            if match is None or match.group() == b'"':
                ahead = (len(self.buffer) if match is None else match.start()) - self.position
                if not self.more():
                    raise self.error("the JSON list ends early (truncated file): get the file again")
                continue
            token, ahead = match.group(), match.end() - self.position
            if token in (b"{", b"["):
                depth += 1
            elif depth == 0 and token in (b",", b"]"):
                element = (self.line, self.buffer[self.position : match.start()])
                self.move(match.end())
                return element, token
            elif token in (b"}", b"]"):
                depth -= 1
                if depth < 0:
                    raise self.error("unbalanced brackets in the JSON list")

    def error(self, message: str) -> DataError:
        """The error to raise about where the cutter stands."""
        return DataError(message, path=self.path, line=self.line)


def elements(path: Path) -> Iterator[NumberedBytes]:
    """The elements of a file that is one JSON list, each with the line it starts on.

    Raises DataError for a list that does not end, for text after its end, and as `chunks` does.
    """
    cutter = _ListCutter(path)
    cutter.skip_space()
    if cutter.buffer[cutter.position : cutter.position + 1] != b"[":
        raise cutter.error("is not a JSON list")
    cutter.move(cutter.position + 1)
    end = b","
    first = True
    while end == b",":
        cutter.skip_space()
        (line, data), end = cutter.element()
        if not data.strip():
            if first and end == b"]":
                break
            raise DataError("empty element in the JSON list", path=path, line=line)
        first = False
        yield line, data
    cutter.skip_space()
    if cutter.position < len(cutter.buffer):
        raise cutter.error("text after the end of the JSON list")
