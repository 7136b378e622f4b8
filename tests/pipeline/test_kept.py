"""The record of what a script's files were made with."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from ragdro.errors import RagdroError

SCRIPT = Path(__file__).parents[2] / "reproductions/kept.py"


@pytest.fixture
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_a_script_that_is_killed_while_it_makes_files_anew_does_not_find_them_made(
    tmp_path: Path, script: dict[str, Any]
) -> None:
    record = tmp_path / "record.json"
    script["note"](record, {"test": 100})
    assert script["is_made"](record, {"test": 100}, [], "")
    assert not script["is_made"](record, {"test": 50}, [], "")  # it is killed here
    assert not script["is_made"](record, {"test": 100}, [], "")


def test_what_was_made_of_files_with_another_option_is_refused(
    tmp_path: Path, script: dict[str, Any]
) -> None:
    record, run = tmp_path / "record.json", tmp_path / "run"
    script["note"](record, {"test": 100, "lists": "bm25"})
    run.touch()
    for options, said in (
        ({"test": 50, "lists": "bm25"}, "test: 50 here, but .* was made with 100; give another"),
        ({"test": 100}, "lists: not asked for here, but .* was made with bm25; give another"),
    ):
        with pytest.raises(RagdroError, match=said):
            script["is_made"](record, options, [run], "give another")
    assert script["is_made"](record, {"test": 100, "lists": "bm25"}, [run], "")
