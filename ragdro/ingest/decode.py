"""Bytes of a text file → text: UTF-8, what a byte order mark or the file itself names, or a guess.

Line ends become "\\n". What is not text (a binary file with a text suffix) is refused.
"""

from __future__ import annotations

import codecs
import re

from ragdro.ingest.document import Remarks, UnreadableError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's mark, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x07\x0e-\x1a\x1c-\x1f]")
_MOST_CONTROL = 0.01
"""A text with more control characters than one in a hundred is taken for binary."""

_GUESSED_FROM = 2**18
"""Bytes that an encoding is guessed from; enough for any language, and quick."""


def decode(data: bytes, remarks: Remarks, *, encoding: str | None = None, declared: str | None = None) -> str:
    """The text of `data`.

    `declared` is what the file says of itself, `encoding` what the user says of files that are not UTF-8.
    A guess is noted in `remarks`. Raises UnreadableError for what no encoding makes text of.
    """
    name = encoding_of(data, remarks, encoding=encoding, declared=declared)
    try:
        text = data.decode(name)
    except (UnicodeDecodeError, LookupError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UnreadableError(f"is not {name} ({reason}): name its encoding with --encoding") from error
    if len(_CONTROL.findall(text)) > _MOST_CONTROL * len(text):
        raise UnreadableError("is binary, whatever its name says: move it away or give it its own suffix")
    return plain(text.removeprefix("\ufeff"))


def encoding_of(
    data: bytes, remarks: Remarks, *, encoding: str | None = None, declared: str | None = None
) -> str:
    """The encoding of a file that begins with `data`; errors and notes as of `decode`."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    if _is_utf8(data):
        return "utf-8"
    if encoding is not None:
        return encoding
    if declared is not None and _fits(data, declared):
        return declared
    return _guess(data, remarks)


def plain(text: str) -> str:
    """The text with "\\n" for every line end, without NUL and without halves of surrogate pairs."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)  # a character cut off at the end is no fault
    except UnicodeDecodeError:
        return False
    return True


def _fits(data: bytes, name: str) -> bool:
    try:
        data.decode(name)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def _guess(data: bytes, remarks: Remarks) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_GUESSED_FROM]).best()
    if best is None:
        raise UnreadableError(
            "is no text in any encoding: if it is one, name its encoding with --encoding, else move it away"
        )
    name = str(best.encoding)
    remarks.notes.append(f"not UTF-8: read as {name}")
    return name
