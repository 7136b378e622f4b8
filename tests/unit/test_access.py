"""What is said of a file that cannot be had: the cause, and a command that helps."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ragdro.access import absent, is_full, recoded, refused, unwritten


def test_a_missing_file_names_one_that_is_alike_or_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").touch()
    folder = f"what is there: ls {tmp_path}"
    meant = f"did you mean {tmp_path / 'questions.jsonl'}? "
    assert absent(tmp_path / "question.jsonl") == f"no such file; {meant}{folder}"
    assert absent(tmp_path / "questions.json") == f"no such file; {meant}{folder}"
    assert absent(tmp_path / "questions") == f"no such file; {meant}{folder}"
    (tmp_path / "y.jsonl").touch()  # most of its name is the ending
    assert absent(tmp_path / "none.jsonl") == f"no such file; {folder}"
    assert absent(tmp_path / "xyz") == f"no such file; {folder}"
    assert absent(tmp_path / "not" / "there" / "questions.jsonl", "config file") == (
        f"no such config file; {folder}"
    )
    assert absent(tmp_path / "questons.jsonl" / "a") == f"no such file; {meant}{folder}"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (
            errno.ENOSPC,
            "No space left on device; free space there (df -h {folder}), then the same command again",
        ),
        (errno.EFBIG, "File too large; it may not grow so large: ulimit -f unlimited"),
        (errno.EROFS, "Read-only file system; name a place that can be written"),
        (errno.ENOENT, "no such file or folder; what is there: ls {folder}"),
        (errno.EXDEV, "Invalid cross-device link"),
    ],
)
def test_what_the_system_says_has_a_next_step(number: int, advice: str, tmp_path: Path) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "not" / "there"))
    assert refused(error) == advice.format(folder=tmp_path)
    assert is_full(error) == (number in (errno.ENOSPC, errno.EFBIG))


def test_a_full_disk_that_a_library_meets_is_the_system_s(tmp_path: Path) -> None:
    error = unwritten(ValueError("I/O error: No space left on device (os error 28)"), tmp_path / "a")
    assert error.errno == errno.ENOSPC and error.filename == str(tmp_path / "a")
    said = refused(error, again="resume with: ragdro train c.yaml --resume")
    assert said.endswith(f"(df -h {tmp_path}), then resume with: ragdro train c.yaml --resume")
    assert "cannot be written: odd" in refused(unwritten(ValueError("odd\nlines"), tmp_path / "a"))


def test_a_text_in_another_encoding_has_the_whole_command(tmp_path: Path) -> None:
    old, new = tmp_path / "a b.csv", tmp_path / "a b-utf8.csv"
    old.write_bytes("Köln".encode("cp1252"))
    command = recoded(old).removeprefix("convert it: ")
    assert subprocess.run(command, shell=True).returncode == 0 and new.read_text(encoding="utf-8") == "Köln"


@pytest.mark.parametrize(
    ("name", "pack", "made"),
    [("a b.csv.gz", gzip.compress, "a b-utf8.csv"), ("a.jsonl.zst", zstandard.compress, "a-utf8.jsonl")],
)
def test_a_compressed_text_in_another_encoding_is_unpacked_on_the_way(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes], made: str
) -> None:
    old = tmp_path / name
    old.write_bytes(pack("Köln".encode("cp1252")))
    command = recoded(old).removeprefix("convert it: ")
    if name.endswith(".zst") and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    assert subprocess.run(command, shell=True).returncode == 0
    assert (tmp_path / made).read_text(encoding="utf-8") == "Köln"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_of_mixed_encodings_each_line_is_converted_that_needs_it(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    old = tmp_path / ("a.csv.gz" if pack is gzip.compress else "a.csv")
    old.write_bytes(pack("Köln\nplain\n".encode() + "München\nGießen\n".encode("cp1252")))
    said, _, command = recoded(old).partition("convert the others: ")
    assert said == "some lines are UTF-8; "
    assert subprocess.run(command, shell=True).returncode == 0
    assert (tmp_path / "a-utf8.csv").read_text(encoding="utf-8") == "Köln\nplain\nMünchen\nGießen\n"


def test_a_temporary_name_is_the_file_that_is_meant(tmp_path: Path) -> None:
    partial = tmp_path / f".out.jsonl.{'0' * 32}.tmp"
    said = refused(OSError(errno.EACCES, "Permission denied", str(partial)))
    assert said == f"Permission denied; see its rights: ls -ld {tmp_path / 'out.jsonl'}"


_RIGHTS = """
import os, pathlib, tempfile
from ragdro.access import refused
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "a").write_text("x")
(folder / "inner").mkdir()
def said(path, mode):
    try:
        path.open(mode)
    except OSError as error:
        return refused(error).replace(str(folder), "F")
(folder / "a").chmod(0o200)
print(said(folder / "a", "r"))
(folder / "a").chmod(0o400)
print(said(folder / "a", "w"))
(folder / "inner").chmod(0o500)
print(said(folder / "inner" / "b", "w"))
(folder / "inner").chmod(0o600)
print(said(folder / "inner" / "deeper" / "b", "w"))
(folder / "inner").chmod(0o700)
print(said(pathlib.Path("/ragdro-nowhere"), "w"))
(folder / "a").unlink(); (folder / "inner").rmdir(); folder.rmdir()
"""


def test_a_right_that_is_missing_is_named_with_the_command_that_gives_it() -> None:
    done = subprocess.run([sys.executable, "-c", _RIGHTS], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "Permission denied; allow it: chmod u+r F/a",
        "Permission denied; allow it: chmod u+w F/a",
        "Permission denied; allow it: chmod u+w F/inner",
        "Permission denied; allow it: chmod u+x F/inner",
        "Permission denied; root, who owns it, may allow it: chmod o+w /; or name another place",
    ]
