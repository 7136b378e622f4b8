"""FSDP2: a model's decoder layers in equal parts over the processes while it is trained, else whole.

In: a model. Out: the same module, whose decoder layers hold a part of each parameter, of its gradient and of
its optimiser's moments, and gather a layer at a time. Embeddings, the last norm and the head stay whole: we
call them as often as a process has tokens to score, and gathering takes every process equally often.

Sampling, scoring and answering take each process as many forward passes as it has questions, so outside of an
update all layers are gathered (`unshard`) and nothing is sent. A model that multiplies in 16 bits is
gathered in 16 bits: its float32 weights are there in parts alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from ragdro.config import Parallel
from ragdro.errors import ModelError
from ragdro.lm.model import LanguageModel
from ragdro.parallel.world import balanced, rank, world_size
from ragdro.parallel.zero import gather_zero, savers, zero_stage


def apply_parallelism(settings: Parallel, models: Mapping[str, LanguageModel]) -> None:
    """Shard the models where `settings` ask for it and there is more than one process; ZeRO shards them
    later, fit by fit."""
    for model in models.values():
        model.zero_stage = zero_stage(settings) if world_size() > 1 else None
    if settings.strategy == "fsdp2" and world_size() > 1:
        for role, model in models.items():
            if not is_sharded(model.hf):
                shard(model.hf, f"{role}.model", model.autocast, model.device.type)
            unshard(model.hf)


def shard(hf: PreTrainedModel, name: str, computed: torch.dtype | None, device: str) -> None:
    """Shard the decoder layers of `hf` for a kind of device; they are in parts behind it. Raises `ModelError`
    where it names no layers.

    With a dtype that they are `computed` in, what is gathered is a copy of that dtype; the parts, their
    gradients' sums and the moments stay float32.
    """
    kinds = set(hf._no_split_modules or ())
    layers = [m for m in hf.modules() if type(m).__name__ in kinds]
    if not layers:
        raise ModelError(
            f"{name}: the model does not say what its layers are, so parallel.strategy must be ddp"
        )
    mesh = init_device_mesh(device, (world_size(),))
    policy = MixedPrecisionPolicy()
    if computed is not None:  # what comes in is left to autocast, as in a model that is not sharded
        policy = MixedPrecisionPolicy(computed, torch.float32, cast_forward_inputs=False)
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    decoder = hf.get_decoder()
    inside = {p for layer in layers for p in layer.parameters()}
    outside = set(decoder.parameters()) - inside
    fully_shard(decoder, mesh=mesh, mp_policy=policy, ignored_params=outside)
    _prefetch(layers)


def _prefetch(layers: Sequence[torch.nn.Module]) -> None:
    """Have each layer ask for the next one's weights before it computes, in both directions: they are sent
    meanwhile, even where the host is late, and one layer more is there, as it is where torch prefetches."""
    shards = [layer for layer in layers if isinstance(layer, FSDPModule)]
    for layer, following in pairwise(shards):
        layer.set_modules_to_forward_prefetch([following])
        following.set_modules_to_backward_prefetch([layer])


def is_sharded(hf: torch.nn.Module) -> bool:
    """Whether `hf` went through `shard`."""
    return any(True for _ in _shards(hf))


def unshard(hf: torch.nn.Module) -> None:
    """Gather all layers, and keep them; nothing where `hf` is not sharded."""
    for module in _shards(hf):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def reshard(hf: torch.nn.Module) -> None:
    """Let go of what other processes hold; nothing where `hf` is not sharded."""
    for module in _shards(hf):
        module.set_reshard_after_forward(True, recurse=False)
        module.reshard()


def whole_weights(hf: PreTrainedModel) -> dict[str, Tensor] | None:
    """`copied_weights` of a sharded model, None for any other."""
    return copied_weights(hf) if is_sharded(hf) else None


@torch.no_grad()
def copied_weights(hf: PreTrainedModel, *, shared: bool = False) -> dict[str, Tensor]:
    """The state of a model as it is now, in the dtype that it is trained in: a copy, except of what is
    frozen. All processes have to ask for it; the main one has it, on its CPU, the others nothing. Where it
    is `shared` each has about as much of it; what goes by several names is the main one's. The layers of a
    sharded model are in parts afterwards."""
    reshard(hf)
    state = hf.state_dict(keep_vars=True)
    names = Counter(value for value in state.values() if isinstance(value, Tensor))
    owner = dict.fromkeys(names, 0)
    if shared:
        single = [tensor for tensor, count in names.items() if count == 1]
        tied = sum(tensor.numel() for tensor, count in names.items() if count > 1)
        owner |= zip(single, balanced([tensor.numel() for tensor in single], tied), strict=True)
    copies = {tensor: _copied(tensor, owner[tensor] == rank()) for tensor in names}
    return {
        name: copies[value] if isinstance(value, Tensor) else value
        for name, value in state.items()
        if (owner[value] if isinstance(value, Tensor) else 0) == rank()
    }


def _copied(tensor: Tensor, is_own: bool) -> Tensor:
    """On the CPU of the process whose own it is; all processes ask for it."""
    if isinstance(tensor, DTensor):  # what is gathered is a copy
        whole: Tensor = tensor.full_tensor()
        return whole.cpu() if is_own else whole.new_empty(0)
    is_frozen = isinstance(tensor, Parameter) and not tensor.requires_grad
    return tensor.detach() if is_frozen or not is_own else tensor.detach().to("cpu", copy=True)


def own_parts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What this process saves of the tensors: its part of those that FSDP2 shards; each of the others is
    saved by one process, and those that ZeRO-3 has in parts are gathered for it, one at a time."""
    whole = [name for name, t in tensors.items() if not isinstance(t, DTensor)]
    saver = dict(zip(whole, savers([tensors[name] for name in whole]), strict=True))
    parts: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        divided = hasattr(tensor, "ds_id")
        part = gather_zero(tensor) if divided else tensor.detach()
        if saver.get(name, rank()) == rank():
            parts[name] = part.cpu() if divided else part
    return parts


def _shards(hf: torch.nn.Module) -> Iterator[FSDPModule]:
    return (m for m in hf.modules() if isinstance(m, FSDPModule))
