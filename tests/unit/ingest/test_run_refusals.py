"""Files that cannot be read, settings and places that cannot be, a full disk, a library that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragdro.cli import app
from ragdro.errors import ConfigError, DataError
from ragdro.ingest import ingest
from tests.unit.ingest import files
from tests.unit.ingest.test_run import ONE_JOB, passages, run


def test_bad_files_are_named_and_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "empty.txt").touch()
    (folder / "scan.pdf").write_bytes(files.pdf([""]))
    (folder / "part.jsonl").write_text('{"text": "fine"}\n{bad\n')
    (folder / "x.png").touch()
    (folder / "~$d.docx").touch()
    out = tmp_path / "corpus.jsonl"
    command = ["ingest", str(folder), "--out", str(out), "--jobs", "1"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout == f"{out}: {len(passages(out))} passages from 7 files\n"
    for said in (
        "passed over: empty.txt: is empty",
        "passed over: scan.pdf: has no text layer (a scan? pages: 1): recognise its text first",
        "passed over: part.jsonl: in part: line 2 is not JSON",
        "warning: bad files: 3; --strict refuses them",
        "not read, by suffix: 1 .png",
        "not read, files and folders that are hidden: 1",
    ):
        assert said in done.stderr
    with pytest.raises(DataError, match=r"empty.txt: is empty \(bad files so far: 1; --strict allows none\)"):
        CliRunner().invoke(app, [*command, "--strict"], catch_exceptions=False)
    run(folder, out, skip_bad=3)
    with pytest.raises(DataError, match="--skip-bad allows 2"):
        run(folder, out, skip_bad=2)
    with pytest.raises(ConfigError, match="--strict and --skip-bad"):
        CliRunner().invoke(app, [*command, "--strict", "--skip-bad", "1"], catch_exceptions=False)


def test_an_unreadable_file_is_bad(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def refusing(self: Path, *args: object, **more: object) -> object:
        if self.name == "a.txt":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refusing)  # the tests may run as root, who may read all
    said = f"cannot be read: Permission denied; see its rights: ls -ld {folder / 'a.txt'}"
    assert run(folder, tmp_path / "c.jsonl").bad == [("a.txt", said)]


def test_a_full_disk_is_one_line_and_loses_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "big.txt").write_bytes(os.urandom(300_000).hex().encode())
    out = tmp_path / "corpus.jsonl"
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n"
    code += "import ragdro.cli, sys; sys.argv[0] = 'ragdro'; ragdro.cli.main()"
    command = [sys.executable, "-c", code, "ingest", str(folder), "--out", str(out), "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert (
        "corpus.jsonl.cache: cannot be written: File too large; it may not grow so large: ulimit -f"
        in done.stderr
    )
    assert not out.exists()
    assert run(folder, out).reused == 1  # a.txt comes before big.txt


@pytest.mark.parametrize(
    ("paths", "out", "said"),
    [
        (["docs"], "docs/corpus.jsonl", "inside the folder that is read, .*--out .*corpus.jsonl"),
        (["docs"], "docs/sub/c.jsonl", "inside the folder"),
        (["docs/a.txt"], "docs/a.txt", "output and an input"),
        (["docs"], "nowhere/c.jsonl", "mkdir -p"),
        (["docs"], "docs", "is a folder: name a file"),
        (["nowhere"], "c.jsonl", "no such file or folder"),
        (["image.png"], "c.jsonl", "suffix that is not read; those that are: .csv .docx"),
        (["empty"], "c.jsonl", "holds no file that is read"),
        (["images"], "c.jsonl", r"holds no file that is read \(not read, by suffix: 1 .png\)"),
        (["bad"], "c.jsonl", r"gave no text: .*: is empty \(bad files: 2, 2 of them"),
        (["docs/a.txt", "other/a.txt"], "c.jsonl", "both called a.txt: give the folder above"),
    ],
)
def test_what_cannot_be_ingested_is_refused(
    paths: list[str], out: str, said: str, folder: Path, tmp_path: Path
) -> None:
    for name in ("empty", "images", "bad", "other"):
        (tmp_path / name).mkdir()
    for name in ("image.png", "images/image.png", "bad/1.txt", "bad/2.txt"):
        (tmp_path / name).touch()
    (tmp_path / "other/a.txt").write_text("other")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=said):
        ingest([tmp_path / path for path in paths], tmp_path / out, ONE_JOB)
    assert [p for p in sorted(tmp_path.rglob("*")) if "cache" not in str(p)] == before


def test_settings_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    for changes, said in (
        ({"overlap": 100}, "--overlap"),
        ({"encoding": "klingon"}, "--encoding klingon"),
    ):
        with pytest.raises(ConfigError, match=said):
            run(folder, tmp_path / "c.jsonl", **changes)


def test_a_missing_library_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragdro.ingest.formats.find_spec", lambda name: None if name == "pypdf" else object())
    with pytest.raises(ConfigError, match=r"\.pdf files needs pypdf.*pip install 'ragdro\[ingest\]'"):
        run(folder, tmp_path / "c.jsonl")
