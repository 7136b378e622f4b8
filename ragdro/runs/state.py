"""Saved states of a run, in `RUN/state/`: what a killed run resumes from.

000012.json              where the run stands, which files that needs, a checksum of each and its own
files.jsonl              which JSON files there are, a list that states have beginnings of (`file_index.py`)
000012-selector/         trained parameters that no checkpoint has, an optimiser's moments; a file a process
000009-shard-0.json      the weighted permutations of one shard of an E-step, which stay when it is done

A state names an earlier state's file where nothing has changed since, and a checkpoint's files where a model
is as these have it, so that it is written once; what a save takes does not depend on how many there were.
Tensors are written while training goes on; a state comes to disk when its files are there, so what a kill or
a full disk leaves is the state before, whole, and some files that no state names. The last two states are
kept; of a finished run, which can be extended, the last one without the models, which are in its last
checkpoint. Only JSON and safetensors are read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import torch

from ragdro.errors import TrainingError
from ragdro.files import atomic_file, sync
from ragdro.parallel.tensors import Group, SavedTensors, begin_writing, write_whole, written
from ragdro.parallel.world import all_gather_object, broadcast_from_rank0, visible
from ragdro.runs.checksums import file_hash, file_hashes
from ragdro.runs.file_index import DamagedError, FileIndex
from ragdro.runs.saved_states import (
    KEPT,
    Leftovers,
    State,
    iterations_of,
    load_values,
    read_state,
    save_values,
    state_paths,
)
from ragdro.runs.status import STATE

Written: TypeAlias = tuple[list[Path], Mapping[str, torch.Tensor]]
"""The files of a model's checkpoint that a state needs, and what it needs of the model that they lack."""


class StateStore:
    """Reads and writes the states in `RUN/state/`.

    Of several processes one `writes` the states, all write tensors, in the `group` that they save in.
    """

    def __init__(self, run: Path, *, writes: bool = True, group: Group = None) -> None:
        self.writes = writes
        self._run, self._group = run, group
        self.folder = run / STATE
        self.folder.mkdir(exist_ok=True)
        self._worker = ThreadPoolExecutor(1, "save")
        self._begun: list[tuple[Callable[[], list[Path]], dict[str, str]]] = []
        """For each write: what waits for it and gives this process's files; where their checksums go."""
        self._committing: Future[None] | None = None
        self._index: FileIndex | None = None
        self._changes: dict[str, list[str] | None] = {}
        self._dropped: list[str] = []
        """The JSON files that the next state needs no more."""
        self._leftovers = Leftovers(self.folder)

    def newest(self, warn: Callable[[str], None]) -> State | None:
        """The newest state that is whole; None where there is none at all.

        A damaged one is named to `warn` and the one before it is taken. All processes ask for it, and verify
        some of the files each. Raises `TrainingError` where all are damaged.
        """
        for path in broadcast_from_rank0(partial(state_paths, self.folder)):
            read, damage = broadcast_from_rank0(partial(self._read, path))
            if read is not None:
                state, files = read
                wrong = [file for file, digest in file_hashes([*files]).items() if digest != files[file]]
                if not wrong:
                    return broadcast_from_rank0(partial(self._make_newest, state))
                damage = f"{wrong[0]}: its checksum does not match"
            warn(f"{damage}; resuming from the state before it")
        return broadcast_from_rank0(self._refuse_damaged)

    def _read(self, path: Path) -> tuple[tuple[State, dict[Path, str]] | None, str]:
        """`read_state`, or what is wrong."""
        try:
            return read_state(self._run, path), ""
        except DamagedError as damage:
            return None, str(damage)

    def _make_newest(self, state: State) -> State:
        for newer in state_paths(self.folder):
            if int(newer.stem) > state.serial:
                newer.unlink()
        return state

    def _refuse_damaged(self) -> None:
        if state_paths(self.folder):
            raise TrainingError(f"{self.folder}: no saved state is whole; start again with overwrite=True")

    def put_tensors(self, state: State, parts: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Begin to write tensors for the next `commit`, by key and name; they may change at once. Raises
        OSError where the disk refused what was begun before."""
        self.wait_for_writes()
        folder = self.folder / f"{state.serial + 1:06d}-{next(iter(parts))}"
        self._leftovers.written(folder)
        tensors = {f"{key}:{name}": tensor for key, part in parts.items() for name, tensor in part.items()}
        begun = begin_writing(folder, tensors, self._group)
        self._add(state, parts, partial(written, folder, begun))

    def put_model(self, state: State, role: str, write: Callable[[], Written]) -> None:
        """Begin to write a model for the next `commit`: each process calls `write` for its part, in a thread
        of its own and behind what was begun before, and has what the checkpoint lacks beside; that must not
        change meanwhile."""
        folder = self.folder / f"{state.serial + 1:06d}-{role}"

        def write_all() -> list[Path]:
            self._leftovers.written(folder)  # not before: a state that is still being written would remove it
            if self.writes:
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
            self.barrier()
            files, lacking = write()
            if not lacking:
                return files
            return [*files, write_whole(folder, {f"{role}:{name}": t for name, t in lacking.items()})]

        self._add(state, [role], self._worker.submit(write_all).result)

    def barrier(self) -> None:
        """Wait until all processes have called this; while nothing else is being written."""
        all_gather_object(None, self._group)

    def wait_for_writes(self) -> None:
        """Wait until all that was put is written: no copy of a tensor is held any more. Raises OSError where
        the disk refused."""
        self.settle()
        for wait_for, _ in self._begun:
            wait_for()

    def _add(self, state: State, keys: Iterable[str], wait_for: Callable[[], list[Path]]) -> None:
        """What is being written will be under these keys."""
        files: dict[str, str] = {}
        self._begun.append((wait_for, files))
        state.tensors.update(dict.fromkeys(keys, files))

    def put_json(self, state: State, key: str, value: Any) -> None:
        """Write a JSON value for the next `commit` under `key`."""
        self.settle()
        path = self.folder / f"{state.serial + 1:06d}-{key}.json"
        digest = ""
        if self.writes:
            with atomic_file(path, "w") as file:
                file.write(json.dumps(value))  # json.dump goes a number at a time
            digest = file_hash(path)
        if key in state.files and state.files[key][0] != path.name:
            self._dropped.append(state.files[key][0])
        state.files[key] = self._changes[key] = [path.name, digest]

    def rename_json(self, state: State, renamed: Callable[[str], str | None]) -> None:
        """Have every JSON value go by the key that `renamed` says of its own; None: it is needed no more."""
        new_keys = {key: renamed(key) for key in state.files}
        moved = {key: state.files.pop(key) for key, new in new_keys.items() if new != key}
        self._changes |= dict.fromkeys(moved)
        for key, file in moved.items():
            new = new_keys[key]
            if new is None:
                self._dropped.append(file[0])
            else:
                state.files[new] = self._changes[new] = file

    def saved(self, state: State, key: str) -> SavedTensors:
        """What `put_tensors` or `put_model` has under a key."""
        for name in state.tensors[key]:
            visible(self._run / name)
        folders = sorted({PurePosixPath(name).parent for name in state.tensors[key]})
        return SavedTensors({self._run / f: f"{key}:" if f.parts[0] == STATE else "" for f in folders})

    def needed_iterations(self) -> set[int]:
        """The iterations whose checkpoints are needed by the states that are kept."""
        needed: set[int] = set()
        for path in state_paths(self.folder)[:KEPT]:
            with suppress(DamagedError):
                needed |= {i for files in load_values(path)["tensors"].values() for i in iterations_of(files)}
        return needed

    def json(self, state: State, key: str) -> Any:
        """What `put_json` wrote."""
        return json.loads(visible(self.folder / state.files[key][0]).read_text(encoding="utf-8"))

    def commit(self, state: State) -> None:
        """Make `state`, as it is now, the newest, and remove what the last two do not need. Where tensors are
        still being written it happens when they are, while training goes on. Raises OSError where the disk
        refused the state before."""
        self.settle()
        state.serial += 1
        write = self._list_changes(state)
        values = asdict(replace(state, files={}))  # files are in their list
        del values["files"]
        if not self._begun:
            write(values)
            return
        begun, self._begun = self._begun, []
        keys = [[key for key, f in state.tensors.items() if f is files] for _, files in begun]

        def finish() -> None:
            for (wait_for, files), owner in zip(begun, keys, strict=True):
                files |= self._hashes(wait_for())
                values["tensors"] |= {key: dict(files) for key in owner}
            write(values)

        self._committing = self._worker.submit(finish)

    def settle(self) -> None:
        """Wait until the state that was committed last is on disk; a wait that a signal ends can be taken up
        again. Raises OSError where the disk refuses."""
        committing = self._committing
        if committing is not None:
            wait([committing])
            self._committing = None
            committing.result()

    def _hashes(self, own: list[Path]) -> dict[str, str]:
        """The checksum of every process's files, each read by the one that wrote it."""
        for folder in {path.parent for path in own}:
            sync(folder)
        hashes = {p.relative_to(self._run).as_posix(): file_hash(p) for p in own}
        parts = all_gather_object(hashes, self._group)
        return {name: digest for part in parts for name, digest in part.items()}

    def _list_changes(self, state: State) -> Callable[[dict[str, Any]], None]:
        """Have the state's list of files go on with what has changed; what brings both to disk."""
        changes, self._changes = self._changes, {}
        dropped, self._dropped = self._dropped, []
        if not self.writes:
            return lambda values: None
        if self._index is None:
            self._index = FileIndex(self.folder, state.files_bytes, state.files_sha256)
        index, place = self._index, state.files_bytes
        added = index.add(changes)
        state.files_bytes, state.files_sha256 = index.size, index.digest

        def write(values: dict[str, Any]) -> None:
            if added:
                index.append(place, added)
            save_values(self.folder, values)
            self._leftovers.remove(values, dropped)

        return write

    def keep_last(self) -> None:
        """The run is done: no other state is needed any more."""
        if self.writes:
            self._leftovers.remove_all(1)
