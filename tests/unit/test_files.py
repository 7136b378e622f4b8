"""Folders that are whole or absent, also where two processes make the same one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from ragdro.files import (
    atomic_file,
    atomic_folder,
    finish_files,
    finish_replacing,
    made_beside,
    replace_folder,
)


def test_a_folder_appears_when_it_is_done(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "made"
    with atomic_folder(target) as making:
        (making / "a").write_text("whole")
        assert not target.exists()
    assert (target / "a").read_text() == "whole"
    assert [p.name for p in target.parent.iterdir()] == ["made"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "made") as making:
        (making / "a").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_keeps_what_the_first_made(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with atomic_folder(target) as slow:
        (slow / "a").write_text("the same")
        with atomic_folder(target) as fast:
            (fast / "a").write_text("the same")
            (fast / "first").touch()
    assert (target / "first").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_a_folder_that_is_there_and_not_seen_yet_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that sees a shared folder late."""
    target = tmp_path / "made"
    target.mkdir()
    (target / "first").touch()
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda self: self != target and is_dir(self))
    with atomic_folder(target) as making:
        (making / "second").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert [path.name for path in target.iterdir()] == ["first"]


@pytest.mark.parametrize("name", [".", "..", "made"])
def test_a_file_of_a_folders_name_is_refused_before_it_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError) as error, atomic_file(Path(name)):
        raise AssertionError
    assert error.value.filename == name
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_a_name_that_is_taken_by_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("in the way")
    with pytest.raises(OSError), atomic_folder(tmp_path / "made") as making:
        (making / "a").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_that_a_library_kept_for_its_owner_get_the_rights_of_new_ones(
    umask: int, rights: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "made/inner").mkdir(parents=True)
        own = tmp_path / "made/inner/weights"
        own.touch(0o600)
        finish_files(tmp_path / "made")
    finally:
        os.umask(before)
    assert own.stat().st_mode & 0o777 == rights


class Killed(BaseException):
    """The process is gone: nothing behind this is done."""


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("survived", range(8))
def test_a_folder_that_is_replaced_is_never_lost(
    there: bool, survived: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in front of any file operation, also of the one that mends it."""
    folder = tmp_path / "model"
    made = made_beside(folder)
    for path, text in ((made, "after"), (folder, "before"))[: 1 + there]:
        path.mkdir()
        (path / "weights").write_text(text)
    left = survived

    def counted(name: str) -> None:
        operation = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            nonlocal left
            if not left:
                raise Killed
            left -= 1
            return operation(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("rename", "replace", "unlink", "rmdir"):
        counted(name)
    try:
        replace_folder(made, folder)
    except Killed:
        assert any((path / "weights").is_file() for path in tmp_path.iterdir())
        left = survived
        with contextlib.suppress(Killed):
            finish_replacing(made, folder)
        left = -1
        finish_replacing(made, folder)
    assert (folder / "weights").read_text() in (("after", "before") if there else ("after",))
    assert {path.name for path in tmp_path.iterdir()} <= {"model", made.name}
    assert made.is_dir() == ((folder / "weights").read_text() == "before")


def test_folders_of_others_beside_one_that_is_replaced_stay(tmp_path: Path) -> None:
    """`model.old` and `model.new` are names that people give."""
    folder = tmp_path / "model"
    made = made_beside(folder)
    for name in ("model.old", "model.new", made.name):
        (tmp_path / name).mkdir()
    finish_replacing(made, folder)
    made.mkdir()
    replace_folder(made, folder)
    finish_replacing(made, folder)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.old", "model.new"}


def test_nothing_is_mended_where_nothing_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    made_beside(folder).mkdir()
    finish_replacing(made_beside(folder), folder)
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.new"}
