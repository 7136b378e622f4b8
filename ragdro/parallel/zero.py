"""DeepSpeed's ZeRO-2 and ZeRO-3: what a fit needs of one model, in parts over the processes.

In: a model that every process has whole, and its optimiser. Out: the same, moved, whole again when the fit is
over. ZeRO-2 shares out gradients and moments, ZeRO-3 the decoder layers' weights too. An engine lives for a
fit: sampling, scoring and answering take each process as many forward passes as it has questions. In its
middle its moments are saved as those of a plain optimiser are, and any strategy's can be restored.

Embeddings, the last norm and the head stay whole in ZeRO-3: a process calls them as often as it has tokens to
score, and gathering takes every process equally often.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ragdro.config import Config, Parallel
from ragdro.errors import ConfigError, TrainingError
from ragdro.parallel.tensors import Kinds
from ragdro.parallel.world import balanced, rank, world_size


def require_deepspeed(config: Config) -> None:
    """Raises `ConfigError` naming the key where the config asks for ZeRO and DeepSpeed is not installed."""
    if zero_stage(config.parallel) is not None:
        _deepspeed(config.parallel.strategy, config.device)


def zero_stage(settings: Parallel) -> int | None:
    """2 or 3 where the strategy is DeepSpeed's, else None."""
    return {"deepspeed-zero2": 2, "deepspeed-zero3": 3}.get(settings.strategy)


def _deepspeed(strategy: str, device: str) -> Any:
    if device.startswith("cpu") or not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        library = import_module("deepspeed")
    except ImportError as error:
        raise ConfigError(
            f"parallel.strategy: {strategy} needs deepspeed, which is not installed; pip install"
            " 'ragdro[deepspeed]'"
        ) from error
    # Its own all-reduce in shared memory would be compiled when the first engine is made; gloo does.
    library.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return library


class _Computed(Module):
    """A model whose forward pass is whatever is to be computed with it, so that DeepSpeed sees it begin."""

    def __init__(self, hf: PreTrainedModel) -> None:
        super().__init__()
        self.hf = hf

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` returns."""
        return compute()


class Zero:
    """A fit of `hf` with `optimiser` (over its trained parameters) under ZeRO of `stage`."""

    def __init__(self, hf: PreTrainedModel, optimiser: Optimizer, stage: int, longest: float) -> None:
        """`longest`: the gradient's norm after clipping, at most."""
        self._hf, self._stage, self._optimiser = hf, stage, optimiser
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self._library = _deepspeed(f"deepspeed-zero{stage}", hf.device.type)
        self._engine = self._library.initialize(
            model=_Computed(hf), optimizer=optimiser, config=_settings(stage, longest)
        )[0]
        self._outside = _outside_layers(hf) if stage == 3 else []
        for parameter in self._outside:
            parameter.ds_persist = True  # type: ignore[attr-defined]
        self._zero_optimiser.persistent_parameters = self._outside
        self._hold_outside()

    @property
    def _zero_optimiser(self) -> Any:
        return self._engine.optimizer

    @property
    def _flat(self) -> list[Tensor]:
        """This process's part of all parameters, as the optimiser moves it."""
        zero = self._zero_optimiser
        parts = (
            zero.single_partition_of_fp32_groups if self._stage == 2 else zero.fp32_partitioned_groups_flat
        )
        return list(parts)

    def backward(self, compute: Callable[[], Tensor], *, last: bool) -> Tensor:
        """Add the gradient of the loss that `compute` gives, a part of the update's; returns that loss.

        All processes make as many calls; `last` ends the update's. A loss that is not finite makes the
        gradient NaN.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        loss: Tensor = self._engine(compute)
        value = loss.detach()
        # DeepSpeed takes the mean over the processes, an update is a sum over their questions.
        self._engine.backward(loss * torch.where(value.isfinite(), float(world_size()), float("nan")))
        return value

    def step(self) -> float:
        """Clip the gradient and take the update; returns the norm before, in nats a question.

        Where that is not finite no update is taken, and it is NaN.
        """
        self._engine.step()
        if self._zero_optimiser.overflow:
            self._hold_outside()
            return float("nan")
        return float(self._engine.get_global_grad_norm())

    def own_moments(self) -> dict[str, Tensor]:
        """What `own_parts` of `optimiser_tensors` would be of a plain optimiser, on the CPU.

        All processes ask for it. A moment of one parameter at a time is gathered, and stays in the process
        that saves it. Empty before the first update that was taken.
        """
        names = [name for name, value in self._optimiser.state.get(self._flat[0], {}).items() if value.ndim]
        if not names:
            return {}
        taken = self._optimiser.state[self._flat[0]]["step"]
        own: dict[str, Tensor] = {}
        for i, (p, saver) in enumerate(zip(self._parameters, savers(self._parameters), strict=True)):
            for name in names:
                whole = self._library.utils.safe_get_full_optimizer_state(p, name)
                if saver == rank():
                    own |= {f"{i}.{name}": whole.to("cpu", copy=True), f"{i}.step": taken}
        return own

    def restore(self, saved: Kinds, read: Callable[[Mapping[str, Tensor]], None]) -> None:
        """Take up any strategy's moments: `read` fills the tensors that it is given, of the `saved` kinds.

        A parameter's moments at a time are read whole, and this process's part of them stays. Raises
        `TrainingError` where some parameters were moved more often than others: here one count is for all.
        """
        counts = {key: torch.empty(size, dtype=kind) for key, (size, kind) in saved.items() if not size}
        if not counts:
            return
        read(counts)
        taken, *others = counts.values()
        if len(counts) < len(self._parameters) or any(other != taken for other in others):
            raise TrainingError(
                f"parallel.strategy: deepspeed-zero{self._stage} counts the updates of all parameters"
                " together, and in the saved state some were moved more often than others; resume with ddp or"
                " fsdp2"
            )
        self._begin_moments(taken, {key.split(".")[1] for key in saved.keys() - counts.keys()})
        for i, p in enumerate(self._parameters):
            own = [key for key in saved.keys() - counts.keys() if key.startswith(f"{i}.")]
            moments = {key: torch.empty(saved[key][0], dtype=saved[key][1]) for key in own}
            read(moments)
            for key, moment in moments.items():
                self._set_moment(p, key.split(".")[1], moment)

    def _begin_moments(self, taken: Tensor, names: set[str]) -> None:
        """Moments of zero behind `taken` updates: DeepSpeed knows of none before the first one."""
        for flat in self._flat:
            zeros = {name: torch.zeros_like(flat) for name in names}
            self._optimiser.state[flat] = {"step": taken.to(flat.device, copy=True), **zeros}
        if self._stage == 2:
            for group, flat in zip(self._zero_optimiser.bit16_groups, self._flat, strict=True):
                self._library.utils.lazy_init_hp_params_optimizer_state(group, flat, self._optimiser.state)

    def _set_moment(self, parameter: Any, name: str, moment: Tensor) -> None:
        if self._stage == 2:
            self._library.utils.safe_set_full_optimizer_state(parameter, moment, name)
            return
        size = parameter.ds_tensor.numel()  # rounded up: the last process's part may be longer than the rest
        part = moment.reshape(-1)[rank() * size : (rank() + 1) * size]
        padded = torch.nn.functional.pad(part, (0, size - part.numel()))
        self._library.utils.safe_set_local_optimizer_state(parameter, padded, name)

    def close(self) -> None:
        """Make the model whole: plain parameters that DeepSpeed knows nothing of, tied where they were. A
        second time it does nothing."""
        if self._engine is None:
            return
        plain = {p: Parameter(self._whole(p), p.requires_grad) for p in self._hf.parameters()}
        self._engine.destroy()
        self._engine = None
        for module in self._hf.modules():
            module._parameters = {n: None if p is None else plain[p] for n, p in module._parameters.items()}

    def _whole(self, parameter: Parameter) -> Tensor:
        if self._stage == 2:
            return parameter.detach().clone()
        with self._library.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()

    def _hold_outside(self) -> None:
        away = [p for p in self._outside if not p.numel()]
        if away:
            away[0].all_gather(away)  # type: ignore[attr-defined]


def gather_zero(parameter: Tensor) -> Tensor:
    """A copy of the whole of a trained parameter that ZeRO-3 has in parts. All processes ask for it."""
    whole: Tensor = import_module("deepspeed").utils.safe_get_full_fp32_param(parameter)
    return whole


def savers(tensors: Sequence[Tensor]) -> list[int]:
    """Which process saves each of some tensors, so that all save about as many numbers."""
    return balanced([getattr(tensor, "ds_numel", tensor.numel()) for tensor in tensors])


def _outside_layers(hf: PreTrainedModel) -> list[Parameter]:
    kinds = set(hf._no_split_modules or ())
    inside = {p for m in hf.modules() if type(m).__name__ in kinds for p in m.parameters()}
    return [p for p in hf.parameters() if p not in inside]


def _settings(stage: int, longest: float) -> dict[str, Any]:
    """DeepSpeed's config. Micro-batches are ours, so it counts one; nothing is fetched ahead, because what
    comes next may differ between the processes. Weights are float32 and autocast is our own forward pass's,
    so none of its 16-bit modes is on."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": longest,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            "stage3_prefetch_bucket_size": 0,
            "stage3_max_reuse_distance": 0,
            "stage3_param_persistence_threshold": 0,
        },
    }
