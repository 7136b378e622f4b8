"""Tensors in a folder: read in whatever pieces, the headers of its files once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.profiler import ProfilerActivity, profile

from ragdro.parallel.tensors import SavedTensors, begin_writing, write_whole, written
from ragdro.parallel.world import own_group, rank
from tests.unit.parallel.ranks import on_two_ranks


def test_headers_are_read_once_however_often_some_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parameter's moments at a time, as ZeRO takes them up: each file once, then the one that has them."""
    expected = {f"{i}.{name}": torch.full((3,), float(i)) for i in range(6) for name in ("m", "v")}
    for file in range(3):
        part = {f"o:{key}": tensor for key, tensor in expected.items() if int(key[0]) % 3 == file}
        save_file({**part, f"selector:{file}": torch.zeros(2)}, tmp_path / f"{file}.safetensors")
    opened, safe_open = list[str](), safetensors.safe_open

    def counted(filename: Any, **options: Any) -> Any:
        opened.append(Path(filename).name)
        return safe_open(filename, **options)

    monkeypatch.setattr(safetensors, "safe_open", counted)
    saved = SavedTensors({tmp_path: "o:"})
    assert saved.kinds == {key: (torch.Size([3]), torch.float32) for key in expected}
    assert sorted(opened) == ["0.safetensors", "1.safetensors", "2.safetensors"]
    opened.clear()
    for i in range(6):
        moments = {f"{i}.{name}": torch.zeros(3) for name in ("m", "v")}
        saved.read_into(moments)
        assert all(torch.equal(tensor, expected[key]) for key, tensor in moments.items())
    assert opened == [f"{i % 3}.safetensors" for i in range(6)]


def saved(folder: Path) -> dict[str, Any]:
    """Save a sharded tensor and a whole one, which change at once; what that allocated until it returned."""
    all_of_it, mesh = torch.arange(2.0**20).reshape(1024, 1024), init_device_mesh("cpu", (2,))
    tensors: dict[str, torch.Tensor] = {"sharded": distribute_tensor(all_of_it, mesh, [Shard(0)])}
    if rank() == 0:
        tensors["whole"] = torch.arange(2.0**18)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        begun = begin_writing(folder, tensors, own_group())
    for tensor in tensors.values():
        tensor.zero_()
    files = written(folder, begun)
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in seen.key_averages())
    return {"allocated": allocated, "bytes": sum(path.stat().st_size for path in files)}


def test_what_is_saved_is_copied_once(tmp_path: Path) -> None:
    for said in on_two_ranks({"saved": saved}, tmp_path)["saved"]:
        assert 2 * 2**20 <= said["allocated"] < 1.2 * said["bytes"]
    read = SavedTensors({tmp_path / "saved": ""}).whole()
    assert torch.equal(read["sharded"], torch.arange(2.0**20).reshape(1024, 1024))
    assert torch.equal(read["whole"], torch.arange(2.0**18))


def test_writing_makes_no_copy_of_the_file_in_memory(tmp_path: Path) -> None:
    """Which would hold Python's lock, so that training waits. What is written is what was, of any layout."""
    tensors = {"big": torch.arange(2.0**21), "turned": torch.arange(6.0).reshape(2, 3).T}
    folder = tmp_path / "state"
    expected = {name: tensor.clone() for name, tensor in tensors.items()}
    tracemalloc.start()
    try:
        begun = begin_writing(folder, tensors, None)
        for tensor in tensors.values():
            tensor.zero_()
        files = written(folder, begun)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (folder / "new").touch()
    assert files[0].stat().st_mode == (folder / "new").stat().st_mode  # safetensors makes it the owner's
    assert peak < files[0].stat().st_size / 2
    read = SavedTensors({folder: ""}).whole()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())


def test_tensors_of_several_folders_are_one(tmp_path: Path) -> None:
    write_whole(tmp_path / "checkpoint", {"w": torch.ones(2), "other": torch.ones(1)})
    write_whole(tmp_path / "beside", {"role:v": torch.full((2,), 2.0), "optimiser:v": torch.zeros(1)})
    saved = SavedTensors({tmp_path / "checkpoint": "", tmp_path / "beside": "role:"})
    read = {name: tensor.tolist() for name, tensor in saved.whole().items()}
    assert read == {"w": [1, 1], "other": [1], "v": [2, 2]}
    with pytest.raises(AssertionError):
        saved.read_into({"absent": torch.zeros(1)})
