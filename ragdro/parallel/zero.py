"""DeepSpeed's ZeRO-2 and ZeRO-3: what a fit needs of one model, in parts over the processes.

In: a model that every process has whole, and its optimiser. Out: the same, moved, whole again when the fit is
over. ZeRO-2 shares out gradients and moments, ZeRO-3 the decoder layers' weights too. An engine lives for a
fit: sampling, scoring and answering take each process as many forward passes as it has questions.

Embeddings, the last norm and the head stay whole in ZeRO-3: a process calls them as often as it has tokens to
score, and gathering takes every process equally often.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ragdro.config import Config, Parallel
from ragdro.errors import ConfigError
from ragdro.parallel.world import is_rank0, world_size


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
        self._hf, self._stage = hf, stage
        library = _deepspeed(f"deepspeed-zero{stage}", hf.device.type)
        self._engine = library.initialize(
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

    def close(self) -> None:
        """Make the model whole: plain parameters that DeepSpeed knows nothing of, tied where they were."""
        plain = {
            p: Parameter(gather_zero(p, everywhere=True), p.requires_grad) for p in self._hf.parameters()
        }
        self._engine.destroy()
        for module in self._hf.modules():
            module._parameters = {n: None if p is None else plain[p] for n, p in module._parameters.items()}

    def _hold_outside(self) -> None:
        away = [p for p in self._outside if not p.numel()]
        if away:
            away[0].all_gather(away)  # type: ignore[attr-defined]


def gather_zero(tensor: Tensor, *, everywhere: bool = False) -> Tensor:
    """A copy of the whole of a tensor that ZeRO-3 may have in parts: on its device everywhere, or on the
    main process's CPU alone (elsewhere nothing)."""
    if hasattr(tensor, "ds_id"):
        with import_module("deepspeed").zero.GatheredParameters([tensor]):
            return _copy(tensor, everywhere)
    return _copy(tensor, everywhere)


def _copy(tensor: Tensor, everywhere: bool) -> Tensor:
    if everywhere:
        return tensor.detach().clone()
    return tensor.detach().to("cpu", copy=True) if is_rank0() else tensor.new_empty(0)


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
