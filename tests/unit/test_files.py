"""Folders that are whole or absent, also where two processes make the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragdro.files import atomic_folder


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


def test_a_name_that_is_taken_by_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("in the way")
    with pytest.raises(OSError), atomic_folder(tmp_path / "made") as making:
        (making / "a").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["made"]
