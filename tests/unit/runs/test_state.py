"""Saved states: whole or refused by name, the one before taken, and nothing kept that nobody needs."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ragdro.errors import TrainingError
from ragdro.runs.checksums import file_hash
from ragdro.runs.file_index import FileIndex
from ragdro.runs.saved_states import State, load_values, save_values
from ragdro.runs.state import StateStore, Written


def three_states(run: Path) -> StateStore:
    """States 1 to 3; the selector was saved with 1 and 3, a shard with 2."""
    store, state = StateStore(run), State(questions="q")
    for number in (1, 2, 3):
        if number != 2:
            store.put_tensors(state, {"selector": {"w": torch.full((3,), float(number))}})
        else:
            store.put_json(state, "shard-0", [0.1, 2])
        state.scores.append((number, number / 3))
        store.commit(state)
    store.settle()
    return store


def test_the_last_two_states_are_kept_and_what_they_need(tmp_path: Path) -> None:
    store = three_states(tmp_path)
    assert sorted(p.name for p in store.folder.iterdir()) == [
        "000001-selector",  # of state 2
        "000002-shard-0.json",
        "000002.json",
        "000003-selector",
        "000003.json",
        "files.jsonl",
    ]
    newest = StateStore(tmp_path).newest(pytest.fail)
    assert newest is not None and newest.serial == 3 and newest.scores == [(1, 1 / 3), (2, 2 / 3), (3, 1.0)]
    assert store.saved(newest, "selector").whole()["w"].tolist() == [3, 3, 3]
    assert store.json(newest, "shard-0") == [0.1, 2]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "altered": lambda path: path.write_bytes(path.read_bytes().replace(b"3", b"4")),
    "empty": lambda path: path.write_bytes(b""),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "a list": lambda path: path.write_bytes(b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_named_and_the_one_before_it_taken(damage: str, tmp_path: Path) -> None:
    three_states(tmp_path)
    DAMAGE[damage](tmp_path / "state/000003.json")
    said: list[str] = []
    store = StateStore(tmp_path)
    state = store.newest(said.append)
    assert state is not None and state.serial == 2
    assert len(said) == 1 and "000003.json" in said[0]
    assert store.saved(state, "selector").whole()["w"].tolist() == [1, 1, 1]
    store.put_tensors(state, {"selector": {"w": torch.zeros(3)}})
    store.commit(state)
    store.settle()
    again = StateStore(tmp_path).newest(pytest.fail)
    assert again is not None and again.serial == 3
    assert store.saved(again, "selector").whole()["w"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_file_of_a_state_is_named(damage: str, tmp_path: Path) -> None:
    three_states(tmp_path)
    path = next(tmp_path.glob("state/000003-selector/*.safetensors"))
    path.unlink() if damage == "gone" else DAMAGE["cut"](path) if damage == "cut" else path.write_bytes(
        path.read_bytes()[:-1] + b"\x01"
    )
    said: list[str] = []
    state = StateStore(tmp_path).newest(said.append)
    assert state is not None and state.serial == 2
    assert said[0].startswith(f"{path}: ")


def test_where_no_state_is_whole_the_run_says_so(tmp_path: Path) -> None:
    three_states(tmp_path)
    for path in (tmp_path / "state").glob("00000?.json"):
        path.write_text("{}")
    with pytest.raises(TrainingError, match="no saved state is whole"):
        StateStore(tmp_path).newest(lambda said: None)
    assert StateStore(tmp_path / "state").newest(pytest.fail) is None


def test_a_state_cannot_name_a_file_outside_its_folder(tmp_path: Path) -> None:
    """Even one whose checksums are right: whoever can write here can compute them."""
    store = three_states(tmp_path)
    (tmp_path / "elsewhere.json").write_text("1")
    values = load_values(store.folder / "000003.json")
    index = FileIndex(store.folder, values["files_bytes"], values["files_sha256"])
    digest = file_hash(tmp_path / "elsewhere.json")
    index.append(values["files_bytes"], index.add({"shard-0": ["../elsewhere.json", digest]}))
    save_values(store.folder, {**values, "files_bytes": index.size, "files_sha256": index.digest})
    said: list[str] = []
    state = store.newest(said.append)
    assert state is not None and state.serial == 2 and "elsewhere" in said[0]


def test_a_signal_in_a_wait_for_the_disk_loses_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends the wait; what closes the run waits for the rest, before it lets go of the folder."""
    disk = threading.Event()

    def slowly(path: Path) -> str:
        disk.wait(10)
        return file_hash(path)

    def asked(number: int, frame: Any) -> None:
        raise SystemExit(75)

    monkeypatch.setattr("ragdro.runs.state.file_hash", slowly)
    store, state = StateStore(tmp_path), State(questions="q")
    store.put_tensors(state, {"selector": {"w": torch.zeros(3)}})
    store.commit(state)
    before = signal.signal(signal.SIGALRM, asked)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(SystemExit):
            store.settle()
    finally:
        signal.signal(signal.SIGALRM, before)
    threading.Timer(0.2, disk.set).start()
    store.settle()
    again = StateStore(tmp_path).newest(pytest.fail)
    assert again is not None and again.serial == 1


def in_a_checkpoint(folder: Path, **lacking: torch.Tensor) -> Path:
    """A fourth state, whose generator is that of a checkpoint but for what is `lacking` there."""
    three_states(folder)
    path = folder / "checkpoints/iteration-1/generator/model.safetensors"

    def write() -> Written:
        path.parent.mkdir(parents=True)
        save_file({"w": torch.full((3,), 7.0)}, path)
        return [path], lacking

    store = StateStore(folder)
    state = store.newest(pytest.fail)
    assert state is not None
    store.put_model(state, "generator", write)
    store.commit(state)
    store.settle()
    return path


def test_a_model_in_a_checkpoint_is_the_states_own(tmp_path: Path) -> None:
    in_a_checkpoint(tmp_path)
    store = StateStore(tmp_path)
    state = store.newest(pytest.fail)
    assert state is not None and state.serial == 4
    assert store.saved(state, "generator").whole()["w"].tolist() == [7, 7, 7]
    assert store.needed_iterations() == {1}
    assert not list(store.folder.glob("*generator*"))


def test_what_a_checkpoint_lacks_is_beside_it(tmp_path: Path) -> None:
    """Also where an attempt that was killed has left files of more processes there."""
    left = tmp_path / "state/000004-generator/shard-00002-model-00001-of-00001.safetensors"
    left.parent.mkdir(parents=True)
    save_file({"generator:v": torch.zeros(2), "generator:u": torch.zeros(2)}, left)
    in_a_checkpoint(tmp_path, v=torch.ones(2))
    store = StateStore(tmp_path)
    state = store.newest(pytest.fail)
    assert state is not None and state.iteration_of("generator") == 1
    read = {name: tensor.tolist() for name, tensor in store.saved(state, "generator").whole().items()}
    assert read == {"w": [7, 7, 7], "v": [1, 1]}
    beside = tmp_path / next(name for name in state.tensors["generator"] if name.startswith("state/"))
    beside.write_bytes(beside.read_bytes()[:-1])
    said: list[str] = []
    state = StateStore(tmp_path).newest(said.append)
    assert state is not None and state.serial == 3 and said[0].startswith(f"{beside}: ")


def test_a_checkpoint_that_the_disk_refuses_is_raised_at_the_next_save(tmp_path: Path) -> None:
    store, written = three_states(tmp_path), threading.Event()
    state = store.newest(pytest.fail)
    assert state is not None

    def write() -> Written:
        written.wait(10)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoints/iteration-1/generator")

    store.put_model(state, "generator", write)
    store.commit(state)
    written.set()
    with pytest.raises(OSError, match="No space left on device: 'checkpoints/iteration-1/generator'"):
        store.put_json(state, "shard-0", 1)
    newest = StateStore(tmp_path).newest(pytest.fail)
    assert newest is not None and newest.serial == 3


def test_what_never_changes_is_written_behind_what_is_being_written(tmp_path: Path) -> None:
    """Nobody waits for either, and the state before that comes to disk meanwhile leaves it alone."""
    store, on, weights = three_states(tmp_path), threading.Event(), {"w": torch.full((3,), 5.0)}
    state = store.newest(pytest.fail)
    assert state is not None
    went_on = list[bool]()

    def write() -> Written:
        went_on.append(on.wait(60))
        return [], {"w": torch.full((3,), 4.0)}

    store.put_model(state, "generator", write)
    store.commit(state)
    store.put_model(state, "reference", lambda: ([], weights))
    on.set()
    store.commit(state)
    store.settle()
    assert went_on == [True]
    again = StateStore(tmp_path).newest(pytest.fail)
    assert again is not None and again.serial == 5
    read = {key: store.saved(again, key).whole()["w"].tolist() for key in ("generator", "reference")}
    assert read == {"generator": [4, 4, 4], "reference": [5, 5, 5]}


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_checkpoint_of_a_state_is_named(damage: str, tmp_path: Path) -> None:
    path = in_a_checkpoint(tmp_path)
    path.unlink() if damage == "gone" else path.write_bytes(
        path.read_bytes()[:-1] + (b"" if damage == "cut" else b"\x01")
    )
    said: list[str] = []
    state = StateStore(tmp_path).newest(said.append)
    assert state is not None and state.serial == 3 and said[0].startswith(f"{path}: ")


@pytest.mark.parametrize(
    "name",
    [
        "elsewhere/w.safetensors",
        "checkpoints/iteration-1/../../elsewhere/w.safetensors",
        "checkpoints/iteration-1/../w.safetensors",
        "state/000003-selector/../../elsewhere/w.safetensors",
    ],
)
def test_a_state_cannot_name_tensors_elsewhere(name: str, tmp_path: Path) -> None:
    in_a_checkpoint(tmp_path)
    for elsewhere in (tmp_path / "elsewhere", tmp_path / "checkpoints"):
        elsewhere.mkdir(exist_ok=True)
        save_file({"w": torch.zeros(3)}, elsewhere / "w.safetensors")
    values = load_values(tmp_path / "state/000004.json")
    values["tensors"] = {"generator": {name: file_hash(tmp_path / name)}}
    save_values(tmp_path / "state", values)
    said: list[str] = []
    state = StateStore(tmp_path).newest(said.append)
    assert state is not None and state.serial == 3 and name in said[0]
