"""A kill before any operation on a file, or in the middle of a line of the list, loses no state."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ragdro.runs.file_index import FileIndex
from ragdro.runs.saved_states import State
from ragdro.runs.state import StateStore

STEPS = 6
Saved = dict[str, Any]


class KilledError(Exception):
    """What ends a process in the middle."""


class Kill:
    """Ends what runs before its operation `at` (from 0), and counts those before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done, self.at = 0, -1
        for owner, name in (
            *((Path, name) for name in ("open", "unlink", "replace", "mkdir")),
            *((os, "fsync"), (shutil, "rmtree")),
        ):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))
        append = FileIndex.append

        def torn(index: FileIndex, place: int, added: bytes) -> None:
            if self._is_now():
                append(index, place, added[: len(added) // 2])
                raise KilledError
            append(index, place, added)

        monkeypatch.setattr(FileIndex, "append", torn)

    def _is_now(self) -> bool:
        self.done += 1
        return self.done == self.at + 1

    def _counted(self, operation: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self._is_now():
                raise KilledError
            return operation(*arguments, **options)

        return counted


def resume(run: Path) -> tuple[int, Saved]:
    """Save from wherever the run stands to the last step; where that was, and what is saved in the end."""
    (run / "state").mkdir(parents=True, exist_ok=True)
    store = StateStore(run)
    state = store.newest(pytest.fail) or State()
    began = state.serial
    for step in range(began + 1, STEPS):
        if step % 3:
            store.put_json(state, f"shard-{step % 3}", step)
            store.put_json(state, "lists", [step])
        else:
            store.rename_json(state, lambda key, of=step: f"e_step-{of}-{key}" if "shard" in key[:5] else key)
        store.commit(state)
        store.settle()
    return began, {key: store.json(state, key) for key in sorted(state.files)}


def test_a_kill_between_any_two_operations_loses_one_save_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = Kill(monkeypatch)
    _, expected = resume(tmp_path / "whole")
    operations, stood = kill.done, 0
    assert operations > 8 * STEPS and {"e_step-3-shard-1", "e_step-3-shard-2", "shard-2"} <= set(expected)
    for at in range(operations):
        run = tmp_path / str(at)
        kill.done, kill.at = 0, at
        with pytest.raises(KilledError):
            resume(run)
        kill.at = -1
        began, found = resume(run)
        assert found == expected and began in (stood, stood + 1)
        stood = began
