"""A folder that machines share, of which this process sees less or more than the other, for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ragdro.errors import TrainingError
from ragdro.parallel import world


def beside(monkeypatch: pytest.MonkeyPatch, seen: set[Path], appears: Path | None = None) -> list[Any]:
    """What this process says it sees, beside another that sees `seen`; the third time, `appears` is here."""
    said: list[Any] = []

    def gather(value: Any) -> list[Any]:
        said.append(value)
        if len(said) == 2 and appears is not None:
            appears.touch()
        return [value, (seen, False)]

    monkeypatch.setattr(world, "world_size", lambda: 2)
    monkeypatch.setattr(world, "all_gather_object", gather)
    return said


def test_what_the_other_process_sees_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    config, state = tmp_path / "config.yaml", tmp_path / "state/000001.json"
    config.touch()
    said = beside(monkeypatch, {config, state}, appears=state)
    world.see_alike(tmp_path)
    assert [there for there, _ in said] == [{config}, {config}, {config, state}]


def test_a_file_that_one_alone_sees_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_VISIBLE", 0.15)
    (tmp_path / "config.yaml").touch()
    beside(monkeypatch, set())
    with pytest.raises(TrainingError, match=r"config\.yaml: after 0\.15 s some processes see it and others"):
        world.see_alike(tmp_path)


def test_a_folder_that_nobody_has_is_no_reason_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = beside(monkeypatch, set())
    world.see_alike(tmp_path / "none")
    assert len(said) == 1
