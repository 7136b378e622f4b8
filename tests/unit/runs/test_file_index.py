"""The list of a run's files: it only grows, each state has a beginning of it, no save takes longer for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ragdro.errors import TrainingError
from ragdro.runs.saved_states import State
from ragdro.runs.state import StateStore


def shard_of(number: int, size: int = 1) -> list[dict[str, int]]:
    return [{"id": number}] * size


def test_a_save_reads_and_writes_as_much_however_many_there_were(tmp_path: Path) -> None:
    """Calls of functions and bytes written: as many for the 3rd shard as for the 205th. What was saved is
    there in the next session."""
    counts: list[int] = []
    store, state = StateStore(tmp_path), State()
    for session in range(2):
        for number in range(session * 105, (session + 1) * 105):
            store.put_json(state, f"shard-{number:03d}", shard_of(number))
            with counted_calls(counts):
                store.commit(state)
            assert len(list(store.folder.glob("??????.json"))) <= 2
        store = StateStore(tmp_path)
        newest = store.newest(pytest.fail)
        assert newest is not None and newest.files == state.files
        state = newest
    assert max(*counts[2:105], *counts[107:]) <= 1.1 * min(counts[2:105]), counts
    lines = (store.folder / "files.jsonl").read_bytes().splitlines()
    assert len(lines) == 210 and (store.folder / "000210.json").stat().st_size < 700
    assert all(store.json(state, f"shard-{n:03d}") == shard_of(n) for n in range(210))


@contextmanager
def counted_calls(counts: list[int]) -> Iterator[None]:
    """Append how many functions, C's among them, are called meanwhile."""
    events: list[str] = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        yield
    finally:
        sys.setprofile(None)
        counts.append(sum(event in ("call", "c_call") for event in events))


def test_values_that_change_their_keys_or_go_are_removed_one_save_later(tmp_path: Path) -> None:
    store, state = StateStore(tmp_path), State()
    for key in ("shard-0", "shard-1", "samples"):
        store.put_json(state, key, key)
    store.commit(state)
    names = {"shard-0": "e_step-1-0", "shard-1": None}
    store.rename_json(state, lambda key: names.get(key, key))
    store.put_json(state, "samples", "new")
    store.commit(state)
    there = {p.name for p in store.folder.iterdir()}
    assert {"000001-shard-0.json", "000001-shard-1.json", "000001-samples.json"} <= there
    (store.folder / "000002.json").write_text("{}")
    said: list[str] = []
    before = StateStore(tmp_path).newest(said.append)
    assert before is not None and list(before.files) == ["shard-0", "shard-1", "samples"] and said
    store = StateStore(tmp_path)
    store.rename_json(before, lambda key: names.get(key, key))
    store.put_json(before, "samples", "new")
    for _ in range(2):
        store.commit(before)
    assert sorted(p.name for p in store.folder.iterdir()) == [
        "000001-shard-0.json",
        "000002-samples.json",
        "000002.json",
        "000003.json",
        "files.jsonl",
    ]
    newest = StateStore(tmp_path).newest(pytest.fail)
    assert newest is not None and set(newest.files) == {"e_step-1-0", "samples"}
    assert store.json(newest, "e_step-1-0") == "shard-0" and store.json(newest, "samples") == "new"


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_list_of_files_is_named(damage: str, tmp_path: Path) -> None:
    """The state that has a shorter beginning of it is taken, as far as that is whole."""
    store, state = StateStore(tmp_path), State()
    for number in range(2):
        store.put_json(state, f"shard-{number}", number)
        store.commit(state)
    path = store.folder / "files.jsonl"
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(
        whole[:-1] if damage == "cut" else whole.replace(b"000002-", b"000009-")
    )
    said: list[str] = []
    if damage == "gone":
        with pytest.raises(TrainingError, match="no saved state is whole"):
            StateStore(tmp_path).newest(said.append)
    else:
        newest = StateStore(tmp_path).newest(said.append)
        assert newest is not None and newest.serial == 1 and list(newest.files) == ["shard-0"]
    assert said[0].startswith(f"{path}: ")


@pytest.mark.parametrize("left", [b"", b'["shard-9", "x.json", "0"]\n', b"\xff" * 3000])
def test_what_a_kill_left_in_the_list_belongs_to_no_state(left: bytes, tmp_path: Path) -> None:
    store, state = StateStore(tmp_path), State()
    store.put_json(state, "shard-0", 0)
    store.commit(state)
    with (store.folder / "files.jsonl").open("ab") as file:
        file.write(left)
    store = StateStore(tmp_path)
    newest = store.newest(pytest.fail)
    assert newest is not None
    store.put_json(newest, "shard-1", 1)
    store.commit(newest)
    again = StateStore(tmp_path).newest(pytest.fail)
    assert again is not None and list(again.files) == ["shard-0", "shard-1"]
    assert len((store.folder / "files.jsonl").read_bytes()) == again.files_bytes
