"""Bytes of a text file → text: UTF-8, what a byte order mark or the file itself names, or a guess.

Line ends become "\\n". What is not text (a binary file with a text suffix) is refused. Of a text in cp1252
lines may be UTF-8: each is read as what it is.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

from ragdro.ingest.document import Remarks, UnreadableError
from ragdro.units import counted

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's mark, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x07\x0e-\x1a\x1c-\x1f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_CONTROL = 0.01
_ALLOWED_CONTROL = 3
"""A text with more control characters than these and one in a hundred is taken for binary."""

_GUESSED_FROM = 2**18
"""Bytes that an encoding is guessed from; enough for any language, and quick."""

_LEGACY = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp874", "koi8_r"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
)
"""What is guessed among: what people's old files are in, rather than all that there ever was."""

MIXED = "cp1252 and UTF-8"
"""Lines beyond ASCII that are UTF-8 are that, the others cp1252. Of other encodings a line may be both."""

_MOSTLY = 0.7
_SOUND = 10
"""Characters beyond ASCII for each damaged byte in what is still UTF-8; another encoding has none or few."""

_CLOSE = 0.05
"""Differences of the detector's scores that mean nothing on short texts."""


def decode(data: bytes, remarks: Remarks, *, encoding: str | None = None, declared: str | None = None) -> str:
    """The text of `data`.

    `declared` is what the file says of itself, `encoding` what the user says of files that are not UTF-8.
    A guess is noted in `remarks`. Raises UnreadableError for what no encoding makes text of.
    """
    name = encoding_of(data, remarks, encoding=encoding, declared=declared)
    try:
        text = "".join(mixed_lines([data], remarks)) if name == MIXED else data.decode(name, errors_for(name))
    except (UnicodeDecodeError, LookupError) as error:
        reason = " ".join(str(error).split())[:80]
        raise UnreadableError(f"is not {name} ({reason}): name its encoding with --encoding") from error
    if len(_CONTROL.findall(text)) > _ALLOWED_CONTROL + _MOST_CONTROL * len(text):
        raise UnreadableError("is binary, whatever its name says: move it away or give it its own suffix")
    return plain(text.removeprefix("\ufeff"))


def mixed_lines(parts: Iterable[bytes], remarks: Remarks) -> Iterator[str]:
    """The lines of a `MIXED` text, which comes in `parts` that end where a line does; behind the last one it
    is noted how many were what."""
    beyond = {"utf-8": 0, "cp1252": 0}
    for part in parts:
        for line in part.splitlines(keepends=True):
            name = "utf-8" if _fits(line, "utf-8") else "cp1252"
            beyond[name] += not line.isascii()
            yield line.decode(name)
    if beyond["utf-8"]:
        western, others = (counted(beyond[name], "lines") for name in ("cp1252", "utf-8"))
        remarks.notes.append(f"not all UTF-8: {western} read as cp1252, {others} as UTF-8")
    else:
        remarks.notes.append("not UTF-8: read as cp1252")


def errors_for(name: str) -> str:
    """How to decode what `encoding_of` named: UTF-8 may have single bytes that are damaged, and noted."""
    return "replace" if name == "utf-8" else "strict"


def encoding_of(
    data: bytes,
    remarks: Remarks,
    *,
    encoding: str | None = None,
    declared: str | None = None,
    whole: bool = True,
) -> str:
    """The encoding of a file of which `data` is the beginning or the `whole`; errors and notes as above."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    if b"\x00" not in data[:_GUESSED_FROM] and _is_utf8(data, remarks, whole):
        return "utf-8"
    if encoding is not None:
        return encoding
    if declared is not None and _fits(data, declared):
        return declared
    name = _guess(data, whole)
    if name != MIXED:
        remarks.notes.append(f"not UTF-8: read as {name}")
    return name


def plain(text: str) -> str:
    """The text with "\\n" for every line end, without NUL and without halves of surrogate pairs."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_utf8(data: bytes, remarks: Remarks, whole: bool) -> bool:
    """Whether this is UTF-8, if need be with a few damaged bytes among many characters that are not ASCII."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, whole)  # a character cut off at the end is no fault where there is more
    damaged = text.count("\ufffd")
    if not damaged:
        return True
    sound = len(text) - damaged - sum(map(text.count, map(chr, range(128))))
    if sound < _SOUND * damaged:
        return False
    remarks.notes.append("some bytes are not UTF-8: read as \ufffd")
    return True


def _fits(data: bytes, name: str) -> bool:
    try:
        data.decode(name)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def _guess(data: bytes, whole: bool) -> str:
    """The most likely legacy encoding; what follows the beginning of a text in cp1252 may be in UTF-8."""
    wide = _wide(data)
    if wide is not None:
        return wide
    lines = data.splitlines(keepends=True)
    others = [line for line in lines if line.isascii() or not _fits(line, "utf-8")]
    rest = b"".join(others)
    may_mix = len(others) < len(lines) or not whole
    if may_mix and not rest.isascii() and _likeliest(rest) == "cp1252":
        return MIXED
    return _likeliest(data)


def _likeliest(data: bytes) -> str:
    """The most likely encoding but for wide ones; the western one unless another is clearly likelier."""
    from charset_normalizer import from_bytes

    head = data[:_GUESSED_FROM]
    if len(data) > len(head):  # not in the middle of a character
        head = head[: head.rfind(b"\n") + 1] or head
    matches = from_bytes(head, cp_isolation=list(_LEGACY))
    best = matches.best()
    if best is None:
        raise UnreadableError(
            "is no text in any encoding: if it is one, name its encoding with --encoding, else move it away"
        )
    western = next((m for m in matches if "cp1252" in (m.encoding, *m.could_be_from_charset)), None)
    close = western is not None and western.chaos <= best.chaos + _CLOSE
    if western is not None and close and western.coherence >= best.coherence - _CLOSE:
        return "cp1252"
    return str(best.encoding)


def _wide(data: bytes) -> str | None:
    """UTF-16 without a byte order mark: every other byte of western text is zero."""
    head = data[:_GUESSED_FROM]
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        if len(data) % 2 == 0 and zeros.count(0) > _MOSTLY * len(zeros) and _fits(data, name):
            return name
    return None
