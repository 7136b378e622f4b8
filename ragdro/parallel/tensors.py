"""Tensors in a folder, each process its part of them: `torch.distributed.checkpoint` over safetensors files.

In: tensors by name, whole (then the same in every process) or sharded. Out: a folder with a file a process,
which any number of processes reads back, sharded in whatever way. Nothing in it is pickled. A folder of
safetensors files from elsewhere, such as a model's, is read in the same way.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor

from ragdro.access import naming, unwritten
from ragdro.files import finish_file
from ragdro.parallel.world import rank, world_size

Kinds: TypeAlias = dict[str, tuple[torch.Size, torch.dtype]]
Group: TypeAlias = dist.ProcessGroup | None
"""The processes that save, in a group of their own: they talk while training does. None: one process."""


def begin_writing(folder: Path, tensors: Mapping[str, Tensor], group: Group) -> Future[Any]:
    """Copy the tensors to the CPU and begin to write them; they may change as soon as this returns.

    All processes of the group call it, for one folder at a time. See `written` for how it ends.
    """
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():  # of an attempt that was killed, maybe of more processes
            path.unlink()
    _say_nothing_of_being_alone()
    begun = async_save(
        dict(tensors),
        storage_writer=_Writer(str(folder), save_distributed=True),
        process_group=group,
        no_dist=group is None,
    )
    return cast("Future[Any]", begun)


def written(folder: Path, begun: Future[Any]) -> list[Path]:
    """Wait until it is; this process's files in the folder. Raises `OSError` where the disk refuses."""
    try:
        begun.result()
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        raise next((cause for cause in causes if isinstance(cause, OSError)), causes[0]) from error
    return sorted(folder.glob(f"shard-{rank() + 1:05d}-*.safetensors"))


def write_whole(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write whole tensors, that no other process writes, into the folder; the file. Raises `OSError` where
    the disk refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shard-{rank() + 1:05d}.safetensors"
    _write(path, tensors)
    return path


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """`metadata`: of the tensors, in the file's header."""
    try:
        with naming(path):
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
            finish_file(path)
    except SafetensorError as error:
        raise unwritten(error, path) from error


class _Writer(HuggingFaceStorageWriter):
    """Writes straight from a copy of the tensors. Torch's own makes the bytes of the whole file in memory
    first, and no other thread runs meanwhile; it copies what is sharded twice."""

    def stage(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors as they are now, on the CPU."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state_dict.items()}

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> torch.futures.Future[list[WriteResult]]:
        tensors, places = dict[str, Tensor](), dict[str, Any]()
        for item in plan.items:
            assert item.tensor_data is not None
            tensors[item.index.fqn] = cast("Tensor", planner.resolve_data(item))
            places[item.index.fqn] = {"saved_offsets": item.tensor_data.chunk.offsets}
        if tensors:
            name = f"shard-{rank() + 1:05d}-model-00001-of-00001.safetensors"
            _write(Path(self.path) / name, tensors, {"DCP_SHARDING_INFO": json.dumps(places)})
        results = torch.futures.Future[list[WriteResult]]()
        results.set_result([])
        return results


class SavedTensors:
    """Tensors in folders, by name. However often some are read, their files' headers are read once."""

    def __init__(self, folders: Mapping[Path, str]) -> None:
        """`folders`: what their names begin with in each; whatever else is there is not one of them."""
        self._readers = [(_Reader(str(folder)), prefix) for folder, prefix in folders.items()]

    @property
    def kinds(self) -> Kinds:
        """The shape and dtype of each."""
        return {
            name.removeprefix(prefix): kind
            for reader, prefix in self._readers
            for name, kind in reader.kinds.items()
            if name.startswith(prefix)
        }

    def read_into(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill the tensors from those of their names, of which each process reads its part."""
        assert tensors.keys() <= self.kinds.keys()
        for reader, prefix in self._readers:
            there = {prefix + n: t for n, t in tensors.items() if prefix + n in reader.kinds}
            if there:
                _say_nothing_of_being_alone()
                load(there, storage_reader=reader, no_dist=world_size() == 1)

    def whole(self) -> dict[str, Tensor]:
        """All of them, whole, on the CPU."""
        tensors = {name: torch.empty(size, dtype=kind) for name, (size, kind) in self.kinds.items()}
        self.read_into(tensors)
        return tensors


class _Reader(HuggingFaceStorageReader):
    """Reads the headers of a folder's files once."""

    @cached_property
    def kinds(self) -> Kinds:
        """The shape and dtype of every tensor in the folder."""
        tensors = cast("dict[str, TensorStorageMetadata]", self._headers.state_dict_metadata)
        return {name: (one.size, one.properties.dtype) for name, one in tensors.items()}

    @cached_property
    def _headers(self) -> Metadata:
        return super().read_metadata()

    def read_metadata(self) -> Metadata:
        return self._headers


def _say_nothing_of_being_alone() -> None:
    """One process is no accident here. (A filter for good: the warning comes from another thread, too.)"""
    warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable", UserWarning)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments and step counts, as `index.name` → tensor, sharded as it has them.

    A count that is an int becomes a tensor of one.
    """
    return {
        f"{i}.{name}": torch.tensor(value) if isinstance(value, int) else value
        for i, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, saved: Kinds, read: Callable[[Mapping[str, Tensor]], None]
) -> None:
    """The inverse of `optimiser_tensors`, into a fresh optimiser over the same parameters: `read` fills the
    tensors that it is given, which are of the `saved` kinds and sharded as the parameters are now."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    tensors: dict[str, Tensor] = {}
    for key, (size, kind) in saved.items():
        like = parameters[int(key.split(".")[0])]
        sharded = isinstance(like, DTensor) and like.shape == size
        tensors[key] = torch.zeros_like(like, dtype=kind) if sharded else torch.empty(size, dtype=kind)
    read(tensors)
    states: dict[int, dict[str, Tensor | int]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        count = value.ndim == 0 and value.dtype == torch.int64
        states.setdefault(int(index), {})[name] = int(value) if count else value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
