"""What to do about a file that cannot be had: the cause and the next command, for one line of a message.

In: a path, and what the system said of it. Out: words that stand behind the path in a message.
"""

from __future__ import annotations

import errno
import gzip
import os
import pwd
import re
import shlex
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import zstandard

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM}
_AGAIN = "the same command again"
_UNPACKING = {b"\x1f\x8b": "gzip -dc", b"\x28\xb5\x2f\xfd": "zstd -dc"}
"""What unpacks a compressed file, by its first bytes."""
_LINE_BY_LINE = 'my $l = $_; eval {{ decode("UTF-8", $l, 1) }}; $_ = encode("UTF-8", decode("{}", $_)) if $@'
_LOOKED_AT = 2**24
"""Bytes of a file in which lines of another encoding are looked for."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{32}\.tmp")
"""A name of `ragdro.files`, under which a file is written first."""


def is_full(error: OSError) -> bool:
    """Whether there was no room left, on the disk or within a limit."""
    return error.errno in {*_FULL, errno.EFBIG}


def absent(path: str | Path, what: str = "file") -> str:
    """`no such file; did you mean data/train.jsonl?`, or which folder to look into; of what is there and
    something else, `a file, not a folder`."""
    path = Path(path)
    if path.exists():
        return f"a {'folder' if path.is_dir() else 'file'}, not a {what}"
    folder, missing = path.parent, path.name
    while not _is_folder(folder) and folder != folder.parent:
        folder, missing = folder.parent, folder.name
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"no such {what}, or no right to look for it: {_right(folder, 'rx')}"
    alike = _alike(missing, folder)
    meant = f"did you mean {alike}? " if alike is not None else ""
    return f"no such {what}; {meant}what is there: ls {shlex.quote(str(folder))}"


def _alike(name: str, folder: Path) -> Path | None:
    """What is called so but for a few letters: an ending alone (`.jsonl`) makes no two names alike."""
    begins = name.partition(".")[0]
    near = get_close_matches(name, (entry.name for entry in folder.iterdir()), n=10)
    return next((folder / one for one in near if get_close_matches(begins, [one.partition(".")[0]])), None)


def unwritten(error: Exception, path: str | Path) -> OSError:
    """What a library says of a file that it cannot write, as the system's own error where its text says which
    one it was: Rust's end in `(os error 28)`."""
    number = _OS_ERROR.search(str(error))
    if number is None:
        cause = str(error).strip().partition("\n")[0]
        return OSError(errno.EIO, f"cannot be written: {cause}", str(path))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """A full disk is said of no file: within, an `OSError` that names none names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def refused(error: OSError, path: str | Path | None = None, *, again: str = _AGAIN) -> str:
    """The cause and what to do: `Permission denied; allow it: chmod u+r FILE`. `path`: where the error does
    not name one. `again`: what follows when there is room."""
    named = error.filename if error.filename is not None else path
    cause = error.strerror or str(error)
    if named is None or isinstance(named, int):
        return f"{cause}; free space, then {again}" if is_full(error) else cause
    place = meant(os.fsdecode(named))
    folder = next((one for one in (place, *place.parents) if _is_folder(one)), Path("/"))
    if error.errno in _DENIED:
        return f"{cause}; {_denied(place)}"
    advice = {
        errno.EFBIG: "it may not grow so large: ulimit -f unlimited",
        errno.EEXIST: "name another place",
        errno.EROFS: "name a place that can be written",
        errno.EISDIR: "name a file in it",
        errno.ENOTDIR: f"a part of the path is a file: ls -ld {shlex.quote(str(folder))}",
        errno.ENAMETOOLONG: "give a shorter name",
        errno.EMFILE: "allow more open files: ulimit -n 4096",
        errno.EIO: "the device fails: copy the file from elsewhere",
    }
    if error.errno in _FULL:
        return f"{cause}; free space there (df -h {shlex.quote(str(folder))}), then {again}"
    if error.errno == errno.ENOENT:
        return absent(place, "file or folder")
    said = advice.get(error.errno or 0)
    return f"{cause}; {said}" if said else cause


def recoded(path: object, encoding: str = "cp1252") -> str:
    """`convert it: iconv -f cp1252 -t utf-8 a.csv > a-utf8.csv`: what to do about a text that is not UTF-8;
    a compressed one is unpacked on the way, and lines that are UTF-8 stay where others are not. The default
    is the most common other encoding."""
    old = Path(str(path))
    unpacks = next((command for start, command in _UNPACKING.items() if _begins(old, start)), None)
    plain = old.with_suffix("") if unpacks and old.suffix in (".gz", ".zst") else old
    new = shlex.quote(str(plain.with_name(f"{plain.stem}-utf8{plain.suffix}")))
    quoted, converts, what = shlex.quote(str(old)), f"iconv -f {encoding} -t utf-8", "convert it"
    if _is_mixed(old, unpacks):
        converts = f"perl -MEncode -pe '{_LINE_BY_LINE.format(encoding)}'"
        what = "some lines are UTF-8; convert the others"
    whole = f"{converts} {quoted}" if unpacks is None else f"{unpacks} < {quoted} | {converts}"
    return f"{what}: {whole} > {new}"


def _is_mixed(path: Path, unpacks: str | None) -> bool:
    """Whether a text that is not UTF-8 has lines beyond ASCII that are, among the first ones."""
    if not path.is_file():
        return False
    try:
        lines = _beginning(path, unpacks).split(b"\n")[:-1]
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):  # damaged further on: said when it is read
        return False
    return any(not line.isascii() and _is_utf8(line) for line in lines)


def _beginning(path: Path, unpacks: str | None) -> bytes:
    if unpacks == "gzip -dc":
        with gzip.open(path, "rb") as file:
            return file.read(_LOOKED_AT)
    with path.open("rb") as plain:
        if unpacks is None:
            return plain.read(_LOOKED_AT)
        with zstandard.ZstdDecompressor().stream_reader(plain) as unpacked:
            return unpacked.read(_LOOKED_AT)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _begins(path: Path, start: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start


def meant(path: str | Path) -> Path:
    """The file that was to be written, where `path` is the name that it is written under first."""
    path = Path(path)
    temporary = _TEMPORARY.fullmatch(path.name)
    return path.with_name(temporary[1]) if temporary else path


def _denied(place: Path) -> str:
    """Which right is missing, and on what: the first folder on the way that may not be entered, else the
    file, else the folder that it was to be made in."""
    for folder in reversed(place.parents):
        if not os.access(folder, os.X_OK):
            return _right(folder, "x")
    for missing, mode in (("r", os.R_OK), ("w", os.W_OK)):
        if os.access(place, os.F_OK) and not os.access(place, mode):
            return _right(place, missing)
    if not os.access(place.parent, os.W_OK):
        return _right(place.parent, "w")
    return f"see its rights: ls -ld {shlex.quote(str(place))}"  # they suffice, and something else forbids it


def _is_folder(path: Path) -> bool:
    """False, too, where there is no right to see it."""
    return os.access(path, os.F_OK) and path.is_dir()


def _right(place: Path, rights: str) -> str:
    """How to get a right: by one's own command where the place is one's own, else from its owner."""
    quoted = shlex.quote(str(place))
    owner = place.stat().st_uid
    if owner == os.geteuid():
        return f"allow it: chmod u+{rights} {quoted}"
    return f"{_name_of(owner)}, who owns it, may allow it: chmod o+{rights} {quoted}; or name another place"


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a user of another machine
        return f"user {user}"
