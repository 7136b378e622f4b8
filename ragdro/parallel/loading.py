"""A model's weights read by each process in part: under fsdp2 no process ever holds a model's float32 whole.

In: a model without weights. Out: the same, sharded as `ragdro.parallel.sharding` has it, each process's part
filled from the checkpoint's files, of which it reads no more than that.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from ragdro.config import Parallel
from ragdro.lm.empty import FillInParts
from ragdro.parallel.sharding import shard
from ragdro.parallel.tensors import SavedTensors
from ragdro.parallel.world import world_size


def loading_in_parts(settings: Parallel) -> FillInParts | None:
    """What fills an empty model in parts; None where each process holds it whole. (A config with `fsdp2` has
    no adapters and no weights of 4 bits.)"""
    return fill_in_parts if settings.strategy == "fsdp2" and world_size() > 1 else None


def fill_in_parts(
    hf: PreTrainedModel, folder: Path, *, device: torch.device, computed: torch.dtype | None, name: str
) -> None:
    """Shard an empty model over the processes, on `device`, and read this one's part from the safetensors
    files in `folder`. What it is `computed` in: see `shard`."""
    buffers = {key: buffer.clone() for key, buffer in hf.named_buffers()}
    shard(hf, name, computed, device.type)
    hf.to_empty(device=device)
    hf.tie_weights()
    with torch.no_grad():
        for key, buffer in hf.named_buffers():
            buffer.copy_(buffers[key])
    saved = hf.state_dict().keys()
    parameters = {key: parameter.detach() for key, parameter in hf.named_parameters()}
    buffers = {key: b for key, b in hf.named_buffers() if key in saved}
    SavedTensors({folder: ""}).read_into(parameters | buffers)
